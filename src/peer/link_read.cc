// The half of a Link that dials the peer's streams and reads them, and finds out whether the peer is there at all.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/fault.h"
#include "cluster/versions.h"
#include "peer/link_parts.h"

namespace cairn::peer {

using State = Link::State;

namespace {

// etcd's table of versions that have these streams begins at 2.1. An answer without a version is one of 2.0, or of no
// etcd at all: a proxy's 410 must not end this member.
bool has_streams(std::string_view server_version) {
  const auto version = cluster::parse_version(server_version);
  return version && *version >= cluster::MinorVersion{2, 1};
}

}  // namespace

int64_t Reader::due_ns(const LinkLimits& limits) const {
  if (const auto* const waiting = std::get_if<Waiting>(&phase)) return waiting->dial_at_ns;
  if (const auto* const dialling = std::get_if<Dialling>(&phase)) return dialling->deadline_ns;
  return std::get<Open>(phase).last_byte_ns + limits.read_timeout_ns;
}

bool State::any_reader_open() const { return std::ranges::any_of(readers, &Reader::is_open); }

const std::string* State::url_not_refused() const {
  const auto found = std::ranges::find_if(urls.all(), [&](const auto& url) { return !refused_urls.contains(url); });
  return found == urls.all().end() ? nullptr : &*found;
}

void State::dial(size_t kind, Step step) {
  const LinkId id = new_id();
  const std::string& url = urls.pick();
  Headers request_headers = headers({});
  request_headers.emplace_back(kRaftToHeader, hex_id(options.peer.value));
  step.out.emplace_back(
      Dial{.id = id,
           .url = url,
           .path = std::string(stream_path(static_cast<StreamKind>(kind))) + "/" + hex_id(options.self.value),
           .headers = std::move(request_headers),
           .connect_timeout_ns = options.connect_timeout_ns});
  const int64_t deadline_ns = step.now_ns + options.connect_timeout_ns + options.limits.read_timeout_ns;
  readers[kind].phase = Reader::Dialling{.id = id, .url = url, .deadline_ns = deadline_ns};
}

// etcd's limiter: a turn each 100 ms, and one in reserve, so that the first attempt behind a long life is at once.
void State::wait_for_turn(size_t kind, bool at_once, Step step) {
  Reader& reader = readers[kind];
  int64_t turn_ns = step.now_ns;
  if (!at_once && reader.last_turn_ns) turn_ns = std::max(turn_ns, *reader.last_turn_ns + options.limits.redial_ns);
  reader.last_turn_ns = turn_ns;
  if (turn_ns <= step.now_ns) return dial(kind, step);
  reader.phase = Reader::Waiting{turn_ns};
}

bool State::take_stream(size_t kind, const Answer& answer, Step step) {
  if (answer.kind != Answer::Kind::kAnswered) {
    deactivate(answer.detail, step);
    return false;
  }
  peer_answers();
  const LinkId id = std::get<Reader::Dialling>(readers[kind].phase).id;
  if (!has_streams(answer.server_version)) {
    if (answer.status == 200) step.out.emplace_back(Close{id});
    return false;
  }
  if (answer.status == 200) {
    Reader::Open open{.id = id, .decoder = MessageDecoder(), .last_byte_ns = step.now_ns};
    if (static_cast<StreamKind>(kind) == StreamKind::kMsgApp)
      open.decoder = MsgAppV2Decoder(options.self, options.peer);
    readers[kind].phase = std::move(open);
    was_open = true;
    quick_dials_left = kQuickDials;
    activate(step);
    return true;
  }
  if (answer.status == 410) complain(Report::Kind::kRemoved, "the peer answers 410 to a stream", step);
  if (answer.status == 412) complain_of_412(answer, step);
  deactivate(fmt::format("a stream is answered with status {}", answer.status), step);
  return false;
}

void State::answered_dial(size_t kind, const Answer& answer, Step step) {
  if (take_stream(kind, answer, step)) return;
  const std::string url = std::get<Reader::Dialling>(readers[kind].phase).url;
  const bool is_refused = answer.kind == Answer::Kind::kRefused;
  urls.failed(url);
  readers[kind].phase = Reader::Waiting{step.now_ns + options.limits.redial_ns};
  if (is_refused) {
    peer_refuses(url, step);
  } else {
    is_asked = false;
  }
  // A process that dies may close its streams before its listener: a connection then comes about and is reset.
  if (answer.kind == Answer::Kind::kFailed && was_open && !any_reader_open() && quick_dials_left > 0) {
    --quick_dials_left;
    readers[kind].phase = Reader::Waiting{step.now_ns + options.limits.quick_redial_ns};
    return;
  }
  // Whether the process is gone is known when the last URL refuses: that one is asked without delay.
  const bool at_once = is_refused && (is_asked || (was_open && !any_reader_open())) && url_not_refused() != nullptr &&
                       !refused_urls.contains(urls.pick());
  wait_for_turn(kind, at_once, step);
}

void State::reader_ended(size_t kind, Ending ending, std::string_view detail, Step step) {
  // That the other side has closed it is no failure yet (etcd): the next connection shows.
  if (ending == Ending::kFailed) deactivate(std::string(detail), step);
  readers[kind].phase = Reader::Waiting{step.now_ns};
  if (!any_reader_open()) refused_urls.clear();
  wait_for_turn(kind, /*at_once=*/false, step);
}

void State::bytes_came(size_t kind, std::string_view bytes, Step step) {
  auto& open = std::get<Reader::Open>(readers[kind].phase);
  open.last_byte_ns = step.now_ns;
  std::vector<raft::Message> messages;
  const Status read = std::visit([&](auto& decoder) { return decoder.feed(bytes, messages); }, open.decoder);
  // Each message, whatever the point's name says: so in etcd.
  std::erase_if(messages, [&](const raft::Message& message) {
    return CAIRN_FAULT_TAKEN("raftDropHeartbeat") || !admits(message);
  });
  if (!messages.empty()) step.out.emplace_back(Deliver{std::move(messages)});
  if (read) return;
  step.out.emplace_back(Close{open.id});
  reader_ended(kind, Ending::kFailed, read.error().message, step);
}

void State::readers_on_time(Step step) {
  if (probe && probe->deadline_ns <= step.now_ns) {
    step.out.emplace_back(Close{probe->id});
    answered_probe(no_answer_in_time(), step);
  }
  if (options.pipeline_only) return;
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    Reader& reader = readers[kind];
    if (reader.due_ns(options.limits) > step.now_ns) continue;
    if (std::holds_alternative<Reader::Waiting>(reader.phase)) {
      dial(kind, step);
    } else if (const auto* const dialling = std::get_if<Reader::Dialling>(&reader.phase)) {
      step.out.emplace_back(Close{dialling->id});
      answered_dial(kind, no_answer_in_time(), step);
    } else {
      step.out.emplace_back(Close{std::get<Reader::Open>(reader.phase).id});
      reader_ended(kind, Ending::kFailed, "nothing came for too long", step);
    }
  }
}

// ---- is the peer there?

void State::peer_answers() {
  refused_urls.clear();
  is_asked = false;
}

void State::peer_refuses(const std::string& url, Step step) {
  refused_urls.insert(url);
  if (url_not_refused() != nullptr) return;
  const bool is_dead = is_asked || (was_open && !any_reader_open());
  if (!is_dead) return;
  was_open = false;
  is_asked = false;
  // Streams that look open are those of a process that is gone.
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    const auto* const open = std::get_if<Reader::Open>(&readers[kind].phase);
    if (open == nullptr) continue;
    step.out.emplace_back(Close{open->id});
    readers[kind].phase = Reader::Waiting{step.now_ns};
    wait_for_turn(kind, /*at_once=*/false, step);
  }
  deactivate("connections are refused", step);
  report(Report::Kind::kDied, url, step);
}

void State::start_probe(const std::string& url, Step step) {
  const LinkId id = new_id();
  const int64_t deadline_ns = step.now_ns + options.connect_timeout_ns + options.limits.read_timeout_ns;
  step.out.emplace_back(Dial{.id = id,
                             .url = url,
                             .path = std::string(kProbingPath),
                             .headers = {},
                             .connect_timeout_ns = options.connect_timeout_ns});
  probe = Probe{.id = id, .url = url, .deadline_ns = deadline_ns};
}

void State::answered_probe(const Answer& answer, Step step) {
  const Probe asked = *std::exchange(probe, std::nullopt);
  if (answer.kind != Answer::Kind::kRefused) {
    if (answer.kind == Answer::Kind::kAnswered) {
      step.out.emplace_back(Close{asked.id});
      peer_answers();
    }
    is_asked = false;
    return;
  }
  peer_refuses(asked.url, step);
  const std::string* const next = url_not_refused();
  if (is_asked && next != nullptr) start_probe(*next, step);
}

void State::redial_now(Step step) {
  if (!started || options.pipeline_only || is_asked) return;
  is_asked = true;
  refused_urls.clear();
  if (probe) return;  // of an earlier question that another connection has answered
  if (std::ranges::any_of(readers, [](const Reader& r) { return std::holds_alternative<Reader::Dialling>(r.phase); })) {
    return;
  }
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    if (std::holds_alternative<Reader::Waiting>(readers[kind].phase)) {
      return wait_for_turn(kind, /*at_once=*/true, step);
    }
  }
  start_probe(urls.pick(), step);
}

}  // namespace cairn::peer
