#include "gateway/metrics_page.h"

#include <memory>
#include <string>
#include <utility>

#include <pthread.h>

namespace cairn::gateway {
namespace {

constexpr size_t kWaitingMax = 1000;

}  // namespace

MetricsPage::MetricsPage(const metrics::Registry& registry) : registry_(registry), thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "cairn-metrics");
}

MetricsPage::~MetricsPage() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void MetricsPage::ask(net::HttpRespond respond) {
  {
    const MutexLock lock(mutex_);
    if (waiting_.size() < kWaitingMax) {
      waiting_.push_back(std::move(respond));
      respond = nullptr;
    }
  }
  if (respond) return respond({.status = 503, .headers = {}, .body = "too many wait for the metrics\n"});
  wake_.notify_one();
}

void MetricsPage::run() {
  for (;;) {
    std::vector<net::HttpRespond> asked;
    {
      MutexLock lock(mutex_);
      while (!stop_ && waiting_.empty()) wake_.wait(lock);
      if (stop_) return;
      asked.swap(waiting_);
    }
    net::HttpResponse page;
    page.content_type = "text/plain; version=0.0.4; charset=utf-8";
    page.shared_body = std::make_shared<const std::string>(registry_.render());
    for (const net::HttpRespond& respond : asked) respond(page);
  }
}

}  // namespace cairn::gateway
