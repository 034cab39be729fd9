#include "rpc/watch_loop.h"

#include <utility>

#include "base/errors.h"
#include "base/log.h"
#include "env/entropy.h"
#include "mvcc/kv/txn.h"
#include "rpc/context.h"

namespace cairn::rpc {
namespace {

// So much history is read on the loop, when it is in memory.
constexpr int64_t kInlineRevisions = 1000;
constexpr mvcc::WatchScan::Limits kInline{
    .records_max = 1000, .bytes_max = 256 << 10, .visits_max = 20'000, .gives_up = true};
constexpr int64_t kAskAgainNs = 100'000'000;

}  // namespace

WatchLoop::WatchLoop(Context& context) : context_(context), hub_(env::random_number()) {}
WatchLoop::~WatchLoop() {
  for (Stream* const stream : streams_) hub_.remove_all(*stream);
}

void WatchLoop::tell() {
  if (!is_wanted_.load() || is_told_.exchange(true)) return;
  context_.loop().post([this] {
    is_told_.store(false);
    refresh();
    catch_up();
  });
}

bool WatchLoop::open(Stream& stream) {
  if (is_stopped_) return false;
  streams_.insert(&stream);
  is_wanted_.store(true);
  return true;
}

void WatchLoop::close(Stream& stream) {
  hub_.remove_all(stream);
  streams_.erase(&stream);
  is_wanted_.store(!streams_.empty());
  update_gauges();
}

// compat: etcd's stop waits for watch streams.
void WatchLoop::stop() {
  is_stopped_ = true;
  fail_all(errors::stopped());
}

void WatchLoop::refresh() {
  const auto state = context_.enter();
  term_ = state->leader.term.value;
  const bool has_news = state->kv.revision != hub_.seen();
  const int64_t began_ns = has_news ? context_.clock().monotonic_ns() : 0;
  const Status advanced = hub_.advance(state->kv, has_news && context_.careful());
  if (!has_news) return;
  observe(began_ns);
  update_gauges();
  if (!advanced) fail_all(advanced.error());
}

// One slice: a short one here, else on a worker. The next one follows it.
void WatchLoop::catch_up() {
  auto taken = hub_.take_scan();
  if (!taken) {
    if (!hub_.is_scanning()) catch_up_later();
    return update_gauges();
  }
  const int64_t first = taken->first();
  const auto state = context_.enter();
  if (first > state->kv.records.file_revision && state->kv.revision - first <= kInlineRevisions) {
    taken->limits = kInline;
    refresh();  // not behind what is read now
    const auto found = mvcc::run_scan(*taken, state->kv);
    if (!found || !found->gave_up) return finish_scan(*taken, found);
    taken->limits = {};
  }
  update_gauges();
  auto scan = std::make_shared<const mvcc::WatchScan>(*std::move(taken));
  context_.workers().go_on(
      Workers::Lane::kLong, reinterpret_cast<uintptr_t>(this),
      [this, scan, &loop = context_.loop()](member::PublishedDomain::Reader& reader) {
        auto found = std::make_shared<const Result<mvcc::WatchScanned>>(mvcc::run_scan(*scan, reader.enter()->kv));
        loop.post([this, scan, found = std::move(found)] {  // what is found is let go on the loop's thread
          refresh();
          finish_scan(*scan, *found);
        });
      });
}

void WatchLoop::finish_scan(const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found) {
  if (!found) {
    hub_.abandon_scan();
    return fail_all(found.error());
  }
  const int64_t began_ns = context_.clock().monotonic_ns();
  hub_.finish_scan(scan, *found);
  observe(began_ns);
  update_gauges();
  catch_up_later();
}

// After others' turns.
void WatchLoop::catch_up_later() {
  if (!hub_.has_behind() || std::exchange(catches_up_later_, true)) return;
  context_.loop().post([this] {
    catches_up_later_ = false;
    refresh();
    catch_up();
  });
}

void WatchLoop::unblock(Stream& stream) {
  if (!stream.has_blocked()) return;
  hub_.unblock(stream);
  refresh();
  catch_up();
}

void WatchLoop::ask_again_later() {
  if (retry_ != nullptr) return;
  retry_ = context_.loop().after(kAskAgainNs, [this] {
    retry_.reset();
    for (Stream* const stream : streams_) {
      if (stream->has_blocked() && !stream->has_queue()) hub_.unblock(*stream);
    }
    refresh();
    catch_up();
  });
}

void WatchLoop::fail_all(const Error& error) {
  if (error != errors::stopped()) log::error("ending all watch streams of a thread", {{"error", error.message}});
  for (Stream* const stream : streams_) {
    hub_.remove_all(*stream);
    stream->fail(error);
  }
}

const std::string& WatchLoop::header(int64_t revision) {
  if (revision != header_revision_ || term_ != header_term_ || header_.empty()) {
    header_.clear();
    header_revision_ = revision;
    header_term_ = term_;
    const member::Node& node = context_.node();
    mvcc::append_header(header_, {node.cluster_id(), node.member_id(), revision, term_});
  }
  return header_;
}

// The responses of one turn are timed together: each counts with their mean.
void WatchLoop::observe(int64_t began_ns) {
  const uint64_t responses = std::exchange(responses_, 0);
  const uint64_t events = std::exchange(events_, 0);
  if (responses == 0) return;
  const auto took_ns = static_cast<uint64_t>(context_.clock().monotonic_ns() - began_ns);
  Metrics& metrics = context_.metrics();
  metrics.watch_send.observe(took_ns / responses, responses);
  metrics.watch_send_per_event.observe(took_ns / events, responses);
  metrics.watch_events.add(events);
}

void WatchLoop::update_gauges() {
  Metrics& metrics = context_.metrics();
  const auto show = [](metrics::Gauge& gauge, size_t& shown, size_t now) {
    if (now != shown) gauge.add(static_cast<int64_t>(now) - static_cast<int64_t>(std::exchange(shown, now)));
  };
  show(metrics.watchers, watchers_shown_, hub_.watcher_count());
  show(metrics.slow_watchers, slow_shown_, hub_.slow_count());
}

}  // namespace cairn::rpc
