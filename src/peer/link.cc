#include "peer/link.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "cluster/versions.h"
#include "peer/link_parts.h"

namespace cairn::peer {

using State = Link::State;

void UrlPicker::set(std::vector<std::string> urls) {
  CAIRN_ASSERT(!urls.empty());
  urls_ = std::move(urls);
  picked_ = 0;
}

void UrlPicker::failed(const std::string& url) {
  if (urls_[picked_] == url) picked_ = (picked_ + 1) % urls_.size();
}

Answer no_answer_in_time() {
  Answer answer;
  answer.kind = Answer::Kind::kTimedOut;
  answer.detail = "no answer in time";
  return answer;
}

State::State(LinkOptions given) : options(std::move(given)) { urls.set(options.peer_urls); }

void State::report(Report::Kind kind, std::string detail, Step step) {
  step.out.emplace_back(Report{.kind = kind, .detail = std::move(detail)});
}

void State::activate(Step step) {
  complaint.reset();
  if (active_since_ns) return;
  active_since_ns = step.now_ns;
  report(Report::Kind::kActive, {}, step);
}

void State::deactivate(std::string detail, Step step) {
  if (!active_since_ns) return;
  active_since_ns.reset();
  report(Report::Kind::kInactive, std::move(detail), step);
}

void State::complain(Report::Kind kind, std::string detail, Step step) {
  if (complaint == kind) return;
  complaint = kind;
  report(kind, std::move(detail), step);
}

void State::complain_of_412(const Answer& answer, Step step) {
  std::string_view text = answer.body;
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text == kIncompatibleVersionText) complain(Report::Kind::kIncompatibleVersion, std::string(text), step);
  if (text == kClusterIdMismatchText) complain(Report::Kind::kClusterIdMismatch, std::string(text), step);
}

Headers State::headers(std::string_view content_type) const {
  Headers out;
  if (!content_type.empty()) out.emplace_back("Content-Type", content_type);
  out.emplace_back(kServerFromHeader, hex_id(options.self.value));
  out.emplace_back(kServerVersionHeader, cluster::kEtcdVersion);
  out.emplace_back(kMinClusterVersionHeader, kMinClusterVersion);
  out.emplace_back(kCairnVersionHeader, cluster::kCairnVersion);
  out.emplace_back(kClusterIdHeader, hex_id(options.cluster_id));
  std::string joined;
  for (const std::string& url : options.self_urls) {
    if (!joined.empty()) joined += ',';
    joined += url;
  }
  out.emplace_back(kPeerUrlsHeader, std::move(joined));
  return out;
}

bool State::admits(const raft::Message& message) const {
  using raft::MessageType;
  if (message.to != options.self || message.from == raft::kNoNode) return false;
  const bool is_forwarded = message.type == MessageType::kProp || message.type == MessageType::kReadIndex ||
                            message.type == MessageType::kTransferLeader;
  return is_forwarded || message.from == options.peer;
}

Link::Link(LinkOptions options) : state_(std::make_unique<State>(std::move(options))) {}
Link::~Link() = default;

void Link::start(int64_t now_ns, Effects& out) {
  CAIRN_ASSERT(!state_->started);
  state_->started = true;
  if (state_->options.pipeline_only) return;
  for (size_t kind = 0; kind < kStreamKinds; ++kind) state_->dial(kind, {now_ns, out});
}

void Link::on_time(int64_t now_ns, Effects& out) {
  if (!state_->started) return;
  state_->readers_on_time({now_ns, out});
  state_->writers_on_time({now_ns, out});
}

std::optional<int64_t> Link::wake_at_ns() const {
  const State& state = *state_;
  if (!state.started) return std::nullopt;
  std::optional<int64_t> due;
  const auto at = [&](int64_t when) { due = due ? std::min(*due, when) : when; };
  if (!state.options.pipeline_only) {
    for (const Reader& reader : state.readers) at(reader.due_ns(state.options.limits));
  }
  if (state.probe) at(state.probe->deadline_ns);
  for (const auto& writer : state.writers) {
    if (writer) at(writer->due_ns(state.options.limits));
  }
  for (const auto& [id, request] : state.posts) at(request.deadline_ns);
  return due;
}

void Link::send(std::vector<raft::Message> messages, int64_t now_ns, Effects& out) {
  state_->send(std::move(messages), {now_ns, out});
}

void Link::on_dialled(LinkId id, const Answer& answer, int64_t now_ns, Effects& out) {
  State& state = *state_;
  if (state.probe && state.probe->id == id) return state.answered_probe(answer, {now_ns, out});
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const auto* const dialling = std::get_if<Reader::Dialling>(&state.readers[kind].phase);
    if (dialling != nullptr && dialling->id == id) return state.answered_dial(kind, answer, {now_ns, out});
  }
}

void Link::on_bytes(LinkId id, std::string_view bytes, int64_t now_ns, Effects& out) {
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const auto* const open = std::get_if<Reader::Open>(&state_->readers[kind].phase);
    if (open != nullptr && open->id == id) return state_->bytes_came(kind, bytes, {now_ns, out});
  }
}

void Link::on_closed(LinkId id, Ending ending, std::string_view detail, int64_t now_ns, Effects& out) {
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const auto* const open = std::get_if<Reader::Open>(&state_->readers[kind].phase);
    if (open != nullptr && open->id == id) return state_->reader_ended(kind, ending, detail, {now_ns, out});
    const auto& writer = state_->writers[kind];
    if (writer && writer->id == id) return state_->writer_ended(kind, ending, detail, {now_ns, out});
  }
  // Before its answer came.
  Answer answer;
  answer.detail = detail;
  on_dialled(id, answer, now_ns, out);
}

LinkId Link::on_attached(StreamKind kind, int64_t now_ns, Effects& out) {
  return state_->attached(kind, {now_ns, out});
}

void Link::on_drained(LinkId id, uint64_t bytes, int64_t now_ns, Effects& out) {
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const auto& writer = state_->writers[kind];
    if (writer && writer->id == id) return state_->drained(kind, bytes, {now_ns, out});
  }
}

void Link::on_posted(LinkId id, const Answer& answer, int64_t now_ns, Effects& out) {
  state_->posted(id, answer, {now_ns, out});
}

void Link::set_urls(std::vector<std::string> urls) {
  state_->urls.set(std::move(urls));
  state_->refused_urls.clear();
}

void Link::redial_now(int64_t now_ns, Effects& out) { state_->redial_now({now_ns, out}); }

void Link::stop(Effects& out) {
  State& state = *state_;
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const Reader& reader = state.readers[kind];
    if (const auto* const open = std::get_if<Reader::Open>(&reader.phase)) out.emplace_back(Close{open->id});
    if (const auto* const dialling = std::get_if<Reader::Dialling>(&reader.phase))
      out.emplace_back(Close{dialling->id});
    if (state.writers[kind]) out.emplace_back(Close{state.writers[kind]->id});
  }
  if (state.probe) out.emplace_back(Close{state.probe->id});
  for (const auto& [id, request] : state.posts) out.emplace_back(Close{id});
  if (state.snapshot) {
    out.emplace_back(Close{state.snapshot->first});
    out.emplace_back(Report{.kind = Report::Kind::kSnapshotFailed, .detail = "the link ends"});
  }
  LinkOptions options = state.options;
  state_ = std::make_unique<State>(std::move(options));
}

std::optional<int64_t> Link::active_since_ns() const { return state_->active_since_ns; }
NodeId Link::peer() const { return state_->options.peer; }

}  // namespace cairn::peer
