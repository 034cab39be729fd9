// gateway/metrics_page.h: /metrics, made away from the io threads: a page takes milliseconds, and others wait for them.
//
// Whoever asks while a page is in the making gets the next one, and all of them the same: what scraping costs does not
// grow with the scrapers.
//
// Threads: ask() from any; pages are made on a thread of its own.
#pragma once

#include <thread>
#include <vector>

#include "base/mutex.h"
#include "metrics/metrics.h"
#include "net/http.h"

namespace cairn::gateway {

class MetricsPage {
 public:
  explicit MetricsPage(const metrics::Registry& registry);
  ~MetricsPage();  // those who still wait get no answer
  MetricsPage(const MetricsPage&) = delete;
  MetricsPage& operator=(const MetricsPage&) = delete;

  // 503 when too many wait already.
  void ask(net::HttpRespond respond);

 private:
  void run();

  const metrics::Registry& registry_;
  Mutex mutex_;
  Condition wake_;
  std::vector<net::HttpRespond> waiting_ CAIRN_GUARDED_BY(mutex_);
  bool stop_ CAIRN_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // the last: it uses the rest
};

}  // namespace cairn::gateway
