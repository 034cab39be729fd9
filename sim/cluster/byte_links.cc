#include "sim/cluster/byte_links.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "cluster/versions.h"
#include "peer/codec.h"
#include "sim/cluster/operators.h"

namespace cairn::sim {
namespace {

using peer::Answer;
using peer::Effects;
using peer::StreamKind;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSentAgainNs = 200 * kMs;  // what a path did not let through
constexpr int64_t kSentAgainNsMax = 3000 * kMs;

Answer answer_of(int status) {
  Answer out;
  out.kind = Answer::Kind::kAnswered;
  out.status = status;
  out.server_version = cluster::kEtcdVersion;
  return out;
}

Answer no_answer(Answer::Kind kind) {
  Answer out;
  out.kind = kind;
  out.detail = kind == Answer::Kind::kRefused ? "connection refused" : "no answer in time";
  return out;
}

// Of all that a member acts on.
uint64_t content_of(const raft::Message& message) {
  uint64_t out = 0;
  const auto mix = [&](uint64_t value) { out = (out ^ value) * 0x9e3779b97f4a7c15, out ^= out >> 29; };
  mix(static_cast<uint64_t>(message.type));
  mix(message.from.value);
  mix(message.term.value);
  mix(message.log_term.value);
  mix(message.index.value);
  mix(message.commit.value);
  mix(message.reject_hint.value);
  mix(message.reject);
  mix(std::hash<std::string>()(message.context));
  for (const raft::Entry& entry : message.entries) {
    mix(entry.index.value);
    mix(entry.term.value);
    mix(entry.data ? std::hash<std::string>()(entry.data->bytes) : 0);
  }
  return out;
}

}  // namespace

ByteLinks::ByteLinks(Schedule& schedule, Random chance, Nodes& nodes, Network& network, Coverage& coverage, Host& host)
    : schedule_(schedule),
      chance_(chance),
      nodes_(nodes),
      network_(network),
      coverage_(coverage),
      host_(host),
      kernel_bytes_max_(uint64_t{4096} << chance_.below(7)) {
  limits_.window_bytes = uint64_t{1024} << chance_.below(11);
  if (chance_.one_in(3)) limits_.stream_messages_max = chance_.between(4, 200);
  if (chance_.one_in(3)) limits_.pipeline_messages_max = chance_.between(1, 16);
  if (chance_.one_in(3)) limits_.queue_bytes_max = uint64_t{8192} << chance_.below(8);
  coverage_.hit("byte links: lives");
}

ByteLinks::~ByteLinks() = default;

void ByteLinks::begin() { plan_trouble(); }

// --- who is there

ByteLinks::Linked* ByteLinks::find(uint64_t number) {
  const auto at = links_.find(number);
  return at == links_.end() ? nullptr : at->second.get();
}

ByteLinks::Linked* ByteLinks::find(size_t place, NodeId peer) {
  const auto at = members_.find({place, peer});
  return at == members_.end() ? nullptr : find(at->second);
}

ByteLinks::Linked* ByteLinks::find_any(size_t place, NodeId peer) {
  if (Linked* const member = find(place, peer)) return member;
  const auto at = remotes_.find({place, peer});
  return at == remotes_.end() ? nullptr : find(at->second);
}

ByteLinks::Pipe* ByteLinks::find_pipe(uint64_t number) {
  const auto at = pipes_.find(number);
  return at == pipes_.end() ? nullptr : &at->second;
}

ByteLinks::Pipe* ByteLinks::pipe_of(const End& end) {
  const auto at = ends_.find(end);
  return at == ends_.end() ? nullptr : find_pipe(at->second);
}

std::optional<size_t> ByteLinks::listener_at(std::string_view url, NodeId wanted) const {
  const auto address = address_of(url);
  std::optional<size_t> out;
  for (const auto& node : nodes_) {
    if (node->address() != address) continue;
    if (node->is_running()) return node->place();
    if (!out || NodeId(node->member_id()) == wanted) out = node->place();
  }
  return out;
}

std::optional<int64_t> ByteLinks::active_since_ns(size_t place, NodeId member) const {
  const auto at = members_.find({place, member});
  return at == members_.end() ? std::nullopt : links_.at(at->second)->link->active_since_ns();
}

ByteLinks::Linked& ByteLinks::add_link(size_t place, NodeId peer, const std::vector<std::string>& urls,
                                       bool is_remote) {
  auto linked = std::make_unique<Linked>();
  linked->number = ++last_number_;
  linked->place = place;
  linked->is_remote = is_remote;
  linked->urls = urls;
  peer::LinkOptions options;
  options.self = id_of(place);
  options.peer = peer;
  options.self_urls = {peer_url_of(nodes_[place]->address())};
  options.peer_urls = urls;
  options.pipeline_only = is_remote;
  options.limits = limits_;
  linked->link = std::make_unique<peer::Link>(std::move(options));
  Linked& out = *linked;
  (is_remote ? remotes_ : members_)[{place, peer}] = out.number;
  links_.emplace(out.number, std::move(linked));
  step(out, [](peer::Link& link, int64_t now_ns, Effects& effects) { link.start(now_ns, effects); });
  return out;
}

void ByteLinks::drop_link(uint64_t number) {
  Effects effects;
  find(number)->link->stop(effects);
  settle(number, std::move(effects));
  links_.erase(number);
}

void ByteLinks::add_remote(size_t place, NodeId id) {
  if (find_any(place, id) != nullptr || seen_[place]->removed.contains(id)) return;
  const auto at = std::ranges::find_if(nodes_, [&](const auto& node) { return NodeId(node->member_id()) == id; });
  if (at != nodes_.end()) add_link(place, id, {peer_url_of((*at)->address())}, true);
}

void ByteLinks::set_members(size_t place) {
  ClusterNode& node = *nodes_[place];
  const auto& members = node.member().published().newest().members;
  auto& seen = seen_[place];
  if (seen == members) return;
  seen = members;
  const NodeId self = id_of(place);
  std::map<NodeId, std::vector<std::string>> others;
  for (const auto& [id, one] : members->members) {
    if (id != self) others[id] = one.peer_urls;
  }
  if (members->find(self) == nullptr) {  // it has heard of the others at its start
    for (const auto& [name, urls] : node.member_options().bootstrap.initial_cluster) {
      const auto at = listener_at(urls.front(), NodeId());
      if (at && *at != place && !members->removed.contains(id_of(*at))) others.try_emplace(id_of(*at), urls);
    }
  }
  std::vector<uint64_t> gone;
  std::erase_if(members_, [&](const auto& each) {
    const bool is_gone = each.first.first == place && !others.contains(each.first.second);
    if (is_gone) gone.push_back(each.second);
    return is_gone;
  });
  std::erase_if(remotes_, [&](const auto& each) {
    const bool is_known = each.first.first == place &&
                          (others.contains(each.first.second) || members->removed.contains(each.first.second));
    if (is_known) gone.push_back(each.second);
    return is_known;
  });
  for (const uint64_t number : gone) drop_link(number);
  for (const auto& [id, urls] : others) {
    Linked* const linked = find(place, id);
    if (linked == nullptr) {
      add_link(place, id, urls, false);
    } else if (std::exchange(linked->urls, urls) != urls) {
      linked->link->set_urls(urls);
    }
  }
}

void ByteLinks::on_gone(size_t place, bool kernel_stays) {
  seen_.erase(place);
  for (auto at = links_.begin(); at != links_.end();) {
    if (at->second->place != place) {
      ++at;
      continue;
    }
    const auto is_of_link = [number = at->first](const End& end) { return end.first == number; };
    std::erase_if(asked_, is_of_link);
    at = links_.erase(at);
  }
  const auto is_here = [place](const auto& each) { return each.first.first == place; };
  std::erase_if(members_, is_here);
  std::erase_if(remotes_, is_here);
  std::vector<uint64_t> closed;
  for (auto& [number, pipe] : pipes_) {
    if (pipe.writer && pipe.writing == place) {
      ends_.erase(*pipe.writer);
      pipe.writer.reset();
      lose(pipe, kernel_stays ? pipe.kernel.size() : 0);
      if (kernel_stays) {
        pipe.has_ended = true;
        pipe.ending = chance_.one_in(2) ? peer::Ending::kEnded : peer::Ending::kFailed;
        plan_delivery(pipe, delay_ns());
      } else {
        pipe.is_silent = true;  // who only reads never asks whether the other is still there
      }
      closed.push_back(number);
    }
    if (pipe.reader && pipe.reading == place) {
      ends_.erase(*pipe.reader);
      pipe.reader.reset();
      lose(pipe, 0);
      tell_writer(number, delay_ns());
      closed.push_back(number);
    }
  }
  for (const uint64_t number : closed) drop_if_closed(number);
}

// --- events and effects of a Link

int64_t ByteLinks::delay_ns() {
  const auto mean = static_cast<uint64_t>(network_.options().delay_mean_ns);
  return static_cast<int64_t>(mean / 2 + chance_.below(mean + 1) +
                              (chance_.one_in(100) ? chance_.below(mean * 20 + 1) : 0));
}

template <class Event>
void ByteLinks::awake(size_t place, uint64_t process, Event event) {
  const ClusterNode& node = *nodes_[place];
  if (!node.is_running() || node.starts() != process) return;
  if (!node.is_paused(schedule_.now_ns())) return event();
  schedule_.at(node.paused_until_ns(),
               [this, place, process, event = std::move(event)]() mutable { awake(place, process, std::move(event)); });
}

template <class Event>
void ByteLinks::later(uint64_t link, int64_t delay_ns, Event event) {
  schedule_.after(delay_ns, [this, link, event = std::move(event)]() mutable {
    const Linked* const linked = find(link);
    if (linked == nullptr) return;
    awake(linked->place, nodes_[linked->place]->starts(), [this, link, event = std::move(event)]() mutable {
      if (Linked* const again = find(link)) event(*again);
    });
  });
}

template <class Event>
void ByteLinks::step(Linked& linked, Event event) {
  Effects effects;
  event(*linked.link, schedule_.now_ns(), effects);
  settle(linked.number, std::move(effects));
}

void ByteLinks::settle(uint64_t link, Effects effects) {
  for (peer::Effect& effect : effects) {
    if (Linked* const linked = find(link)) std::visit([&](auto& each) { perform(*linked, each); }, effect);
  }
  if (Linked* const linked = find(link)) set_timer(*linked);
}

void ByteLinks::set_timer(Linked& linked) {
  const auto due_ns = linked.link->wake_at_ns();
  if (!due_ns || linked.timer_ns <= *due_ns) return;  // one that is too early looks again
  linked.timer_ns = *due_ns;
  later(linked.number, *due_ns - schedule_.now_ns(), [this, due = *due_ns](Linked& one) {
    if (one.timer_ns != due) return;
    one.timer_ns = INT64_MAX;
    step(one, [](peer::Link& link, int64_t now_ns, Effects& effects) { link.on_time(now_ns, effects); });
  });
}

void ByteLinks::send(size_t place, raft::Message message) {
  Linked* const linked = find_any(place, message.to);
  if (linked == nullptr) return coverage_.hit("byte links: messages to nobody known");
  linked->outbox.push_back(std::move(message));
  if (linked->outbox.size() > 1) return;
  later(linked->number, static_cast<int64_t>(chance_.below(20'000)), [this](Linked& one) {
    for (const raft::Message& each : one.outbox) note_sent(one.place, each);
    step(one, [&one](peer::Link& link, int64_t now_ns, Effects& effects) {
      link.send(std::exchange(one.outbox, {}), now_ns, effects);
    });
  });
}

void ByteLinks::redial(size_t place, NodeId member) {
  const Linked* const linked = find(place, member);
  if (linked == nullptr) return;
  later(linked->number, static_cast<int64_t>(chance_.below(3 * kMs)), [this](Linked& one) {
    step(one, [](peer::Link& link, int64_t now_ns, Effects& effects) { link.redial_now(now_ns, effects); });
  });
}

void ByteLinks::perform(Linked& linked, peer::Dial& effect) {
  std::optional<StreamKind> stream;
  if (effect.path.starts_with(peer::kMsgAppStreamPath)) stream = StreamKind::kMsgApp;
  if (effect.path.starts_with(peer::kMessageStreamPath)) stream = StreamKind::kMessage;
  request({.asked = {linked.number, effect.id},
           .from = linked.place,
           .to = linked.link->peer(),
           .url = std::move(effect.url),
           .connect_timeout_ns = effect.connect_timeout_ns,
           .stream = stream});
}

void ByteLinks::perform(Linked& linked, peer::Post& effect) {
  coverage_.hit("byte links: POSTs");
  request({.asked = {linked.number, effect.id},
           .from = linked.place,
           .to = linked.link->peer(),
           .url = std::move(effect.url),
           .connect_timeout_ns = effect.connect_timeout_ns,
           .message = effect.body.flat()});
}

void ByteLinks::perform(Linked&, peer::PostSnapshot&) { CAIRN_ASSERT(false); }  // none is sent this way

void ByteLinks::perform(Linked& linked, peer::Write& effect) {
  Pipe* const pipe = pipe_of({linked.number, effect.id});
  if (pipe == nullptr || pipe->has_ended) return;
  if (pipe->held.empty()) pipe->drained_ns = schedule_.now_ns();
  effect.bytes.visit([pipe](std::string_view bytes) { pipe->held.append(bytes); });
  feed(*pipe);
}

void ByteLinks::perform(Linked& linked, peer::Close& effect) {
  const End end{linked.number, effect.id};
  asked_.erase(end);
  Pipe* const pipe = pipe_of(end);
  if (pipe == nullptr) return;
  if (pipe->reader == end) {
    const bool is_given_up = pipe->is_answered && schedule_.now_ns() - pipe->read_ns >= limits_.read_timeout_ns;
    if (is_given_up) coverage_.hit("byte links: half open, and given up by who reads");
    return close_reader(*pipe);
  }
  const bool is_given_up = !pipe->held.empty() && schedule_.now_ns() - pipe->drained_ns >= limits_.write_timeout_ns;
  if (is_given_up) coverage_.hit("byte links: full, and given up by who writes");
  close_writer(*pipe);
}

void ByteLinks::perform(Linked& linked, peer::Deliver& effect) {
  CAIRN_ASSERT(reading_);
  const size_t from = find_pipe(*reading_)->writing;
  const size_t to = linked.place;
  for (raft::Message& message : effect.messages) arrive(from, to, std::move(message));
}

void ByteLinks::perform(Linked& linked, peer::Report& effect) {
  using From = peer::Report::Kind;
  using To = member::PeerReport::Kind;
  const NodeId about = linked.link->peer();
  const auto report = [&](To kind) { host_.on_link_report(linked.place, kind, about); };
  switch (effect.kind) {
    case From::kUnreachable:
      if (effect.detail.ends_with("for want of room")) coverage_.hit("byte links: messages dropped from a full queue");
      return report(To::kUnreachable);
    case From::kStreamCut: return report(To::kStreamCut);
    case From::kDied: coverage_.hit("deaths reported"); return report(To::kDied);
    case From::kActive: return report(To::kConnected);
    case From::kRemoved:
      coverage_.hit("byte links: told that it was removed");
      return host_.on_told_removed(linked.place, about);
    default: return;
  }
}

// --- what arrives is what was sent

void ByteLinks::note_sent(size_t from, const raft::Message& message) {
  ++sent_[{from, message.to}][content_of(message)];
}

bool ByteLinks::take_sent(size_t from, const raft::Message& message) {
  auto& sent = sent_[{from, message.to}];
  const auto at = sent.find(content_of(message));
  if (at == sent.end()) return false;
  if (--at->second == 0) sent.erase(at);
  return true;
}

void ByteLinks::arrive(size_t from, size_t to, raft::Message message) {
  if (!take_sent(from, message)) {
    return host_.on_wrong_bytes(fmt::format("member {} gets a {} at index {} that {} did not send, or not so often", to,
                                            raft::name_of(message.type), message.index, from));
  }
  ++delivered_;
  host_.on_link_message(to, std::move(message));
}

// --- requests

void ByteLinks::request(Request request) {
  asked_.insert(request.asked);
  schedule_.after(delay_ns(), [this, request = std::move(request)] {
    if (!asked_.contains(request.asked)) return;
    const auto at = listener_at(request.url, request.to);
    if (!at || !nodes_[*at]->is_on() || !is_connected(request.from, *at)) {
      coverage_.hit("byte links: connections that time out");
      schedule_.after(request.connect_timeout_ns,
                      [this, request] { answer_now(request, no_answer(Answer::Kind::kTimedOut)); });
    } else if (!nodes_[*at]->is_running()) {
      coverage_.hit("byte links: connections refused");
      answer(request, *at, no_answer(Answer::Kind::kRefused));
    } else {
      awake(*at, nodes_[*at]->starts(), [this, request, at = *at] { serve(request, at); });
    }
  });
}

// As peer/peer_listener.h answers.
void ByteLinks::serve(const Request& request, size_t at) {
  if (request.message) return answer(request, at, answer_of(take_post(request, at)));
  if (!request.stream) return answer(request, at, answer_of(200));
  const NodeId from = id_of(request.from);
  if (seen_[at]->removed.contains(from)) return answer(request, at, answer_of(410));
  if (find(at, from) == nullptr) {
    add_remote(at, from);
    return answer(request, at, answer_of(404));
  }
  if (request.to != id_of(at)) {
    coverage_.hit("byte links: streams meant for another member");
    return answer(request, at, answer_of(412));
  }
  attach(request, at, *request.stream);
}

int ByteLinks::take_post(const Request& request, size_t at) {
  auto message = peer::decode_message(*request.message);
  CAIRN_ASSERT(message);
  if (seen_[at]->removed.contains(message->from)) return 403;
  add_remote(at, id_of(request.from));
  if (message->to != id_of(at)) return 500;
  arrive(request.from, at, *std::move(message));
  return 204;
}

void ByteLinks::answer(const Request& request, size_t at, const Answer& answer) {
  schedule_.after(delay_ns(), [this, request, at, answer] {
    if (!asked_.contains(request.asked)) return;
    if (is_connected(request.from, at)) return answer_now(request, answer);
    schedule_.after(kSentAgainNs, [this, request, at, answer] { this->answer(request, at, answer); });
  });
}

void ByteLinks::answer_now(const Request& request, const Answer& answer) {
  later(request.asked.first, 0, [this, request, answer](Linked& linked) {
    if (asked_.erase(request.asked) == 0) return;
    step(linked, [&](peer::Link& link, int64_t now_ns, Effects& effects) {
      request.message ? link.on_posted(request.asked.second, answer, now_ns, effects)
                      : link.on_dialled(request.asked.second, answer, now_ns, effects);
    });
  });
}

void ByteLinks::attach(const Request& request, size_t at, StreamKind kind) {
  if (!asked_.contains(request.asked)) return;  // who asked has closed the connection
  if (!had_stream_.emplace(request.asked.first, kind).second) coverage_.hit("byte links: streams dialled again");
  Linked& linked = *find(at, id_of(request.from));
  const uint64_t number = ++last_number_;
  step(linked, [&](peer::Link& link, int64_t now_ns, Effects& effects) {
    const End writer{linked.number, link.on_attached(kind, now_ns, effects)};
    pipes_.emplace(number, Pipe{.number = number,
                                .kind = kind,
                                .reading = request.from,
                                .writing = at,
                                .reader = request.asked,
                                .writer = writer,
                                .held = {},
                                .kernel = {},
                                .read_ns = now_ns,
                                .drained_ns = now_ns,
                                .read = ByteFrames(kind)});
    ends_[request.asked] = number;
    ends_[writer] = number;
  });
  begin_reading(number);
}

void ByteLinks::begin_reading(uint64_t number) {
  schedule_.after(delay_ns(), [this, number] {
    Pipe* const pipe = find_pipe(number);
    if (pipe == nullptr || !pipe->reader || pipe->is_silent) return;
    if (!is_connected(pipe->reading, pipe->writing)) {
      return schedule_.after(kSentAgainNs, [this, number] { begin_reading(number); });
    }
    later(pipe->reader->first, 0, [this, number](Linked& linked) {
      Pipe* const open = find_pipe(number);
      if (open == nullptr || !open->reader) return;
      const peer::LinkId id = open->reader->second;
      asked_.erase(*open->reader);
      open->is_answered = true;
      open->read_ns = schedule_.now_ns();
      plan_delivery(*open, delay_ns());
      step(linked, [id](peer::Link& link, int64_t now_ns, Effects& effects) {
        link.on_dialled(id, answer_of(200), now_ns, effects);
      });
    });
  });
}

// --- bytes

// The transport hands on what the kernel takes.
void ByteLinks::feed(Pipe& pipe) {
  const uint64_t room = kernel_bytes_max_ - std::min<uint64_t>(kernel_bytes_max_, pipe.kernel.size());
  const size_t taken = std::min<uint64_t>(room, pipe.held.size());
  pipe.kernel.append(pipe.held, 0, taken);
  pipe.held.erase(0, taken);
  pipe.drained += taken;
  if (taken > 0) pipe.drained_ns = schedule_.now_ns();
  if (!pipe.held.empty()) coverage_.hit("byte links: full");
  if (pipe.writer && pipe.drained > 0 && !std::exchange(pipe.is_draining, true)) tell_drained(pipe.number);
  plan_delivery(pipe, delay_ns());
}

void ByteLinks::tell_drained(uint64_t number) {
  later(find_pipe(number)->writer->first, static_cast<int64_t>(chance_.below(20'000)), [this, number](Linked& linked) {
    Pipe* const pipe = find_pipe(number);
    if (pipe == nullptr || !pipe->writer) return;
    pipe->is_draining = false;
    step(linked,
         [id = pipe->writer->second, bytes = std::exchange(pipe->drained, 0)](
             peer::Link& link, int64_t now_ns, Effects& effects) { link.on_drained(id, bytes, now_ns, effects); });
  });
}

void ByteLinks::plan_delivery(Pipe& pipe, int64_t delay_ns) {
  const bool has_work = !pipe.kernel.empty() || !pipe.held.empty() || pipe.has_ended;
  if (!has_work || !pipe.reader || !pipe.is_answered || pipe.is_silent) return;
  if (std::exchange(pipe.is_delivering, true)) return;
  schedule_.after(delay_ns, [this, number = pipe.number] { deliver(number); });
}

void ByteLinks::deliver(uint64_t number) {
  Pipe* pipe = find_pipe(number);
  if (pipe == nullptr) return;
  pipe->is_delivering = false;
  if (!pipe->reader || pipe->is_silent) return;
  const ClusterNode& reading = *nodes_[pipe->reading];
  if (reading.is_paused(schedule_.now_ns())) {
    return plan_delivery(*pipe, reading.paused_until_ns() - schedule_.now_ns());
  }
  const uint64_t loss_one_in = has_ended_ ? 0 : network_.options().loss_one_in;
  const bool is_cut = network_.is_cut(pipe->writing, pipe->reading);
  if (is_cut || (loss_one_in > 0 && chance_.one_in(4 * loss_one_in))) {
    coverage_.hit("byte links: bytes sent again");
    return plan_delivery(*pipe, kSentAgainNs + static_cast<int64_t>(chance_.below(kSentAgainNs)));
  }
  if (!pipe->kernel.empty() && !deliver_bytes(number)) return;
  pipe = find_pipe(number);
  if (pipe->kernel.empty() && pipe->has_ended) return deliver_end(number);
  // Without the other way nobody learns that there is room again.
  const bool is_acknowledged = !network_.is_cut(pipe->reading, pipe->writing);
  if (is_acknowledged) feed(*pipe);
  plan_delivery(*pipe, is_acknowledged ? delay_ns() : kSentAgainNs);
}

bool ByteLinks::deliver_bytes(uint64_t number) {
  Pipe* pipe = find_pipe(number);
  const size_t size = chance_.one_in(4) ? chance_.between(1, pipe->kernel.size()) : pipe->kernel.size();
  const std::string bytes = pipe->kernel.substr(0, size);
  pipe->kernel.erase(0, size);
  pipe->read_ns = schedule_.now_ns();
  const End end = *pipe->reader;
  reading_ = number;
  for (std::string_view left = bytes; !left.empty();) {
    const std::string_view chunk = left.substr(0, chance_.one_in(3) ? chance_.between(1, left.size()) : left.size());
    left.remove_prefix(chunk.size());
    pipe->read.feed(chunk);
    if (!pipe->read.at_boundary()) coverage_.hit("byte links: frames in chunks");
    step(*find(end.first), [&](peer::Link& link, int64_t now_ns, Effects& effects) {
      link.on_bytes(end.second, chunk, now_ns, effects);
    });
    pipe = pipe_of(end);
    if (pipe == nullptr) break;
  }
  reading_.reset();
  if (pipe == nullptr) host_.on_wrong_bytes("a stream is closed whose bytes cannot be decoded");
  return pipe != nullptr;
}

void ByteLinks::deliver_end(uint64_t number) {
  Pipe& pipe = *find_pipe(number);
  const End end = *pipe.reader;
  const peer::Ending ending = pipe.ending;
  later(end.first, 0, [this, end, ending](Linked& linked) {
    Pipe* const ended = pipe_of(end);
    if (ended == nullptr) return;
    ends_.erase(end);
    ended->reader.reset();
    drop_if_closed(ended->number);
    step(linked, [&](peer::Link& link, int64_t now_ns, Effects& effects) {
      link.on_closed(end.second, ending, "the connection was closed", now_ns, effects);
    });
  });
}

// --- ends

void ByteLinks::lose(Pipe& pipe, size_t but) {
  if (!pipe.held.empty() || pipe.kernel.size() > but) coverage_.hit("byte links: bytes lost with their connection");
  ByteFrames read = pipe.read;
  pipe.held.clear();
  pipe.kernel.resize(but);
  read.feed(pipe.kernel);
  if (!read.at_boundary()) coverage_.hit("byte links: cut in the middle of a frame");
}

void ByteLinks::close_reader(Pipe& pipe) {
  ends_.erase(*pipe.reader);
  pipe.reader.reset();
  lose(pipe, 0);
  if (!pipe.is_silent) tell_writer(pipe.number, delay_ns());
  drop_if_closed(pipe.number);
}

void ByteLinks::close_writer(Pipe& pipe) {
  const bool in_order = pipe.held.empty();
  ends_.erase(*pipe.writer);
  pipe.writer.reset();
  lose(pipe, in_order ? pipe.kernel.size() : chance_.below(pipe.kernel.size() + 1));
  pipe.has_ended = true;
  pipe.ending = in_order ? peer::Ending::kEnded : peer::Ending::kFailed;
  plan_delivery(pipe, delay_ns());
  drop_if_closed(pipe.number);
}

// The kernel of who reads resets the connection, once it can.
void ByteLinks::tell_writer(uint64_t number, int64_t delay_ns) {
  schedule_.after(delay_ns, [this, number, delay_ns] {
    const Pipe* const pipe = find_pipe(number);
    if (pipe == nullptr || !pipe->writer) return;
    if (!nodes_[pipe->reading]->is_on() || !is_connected(pipe->reading, pipe->writing)) {
      return tell_writer(number, std::clamp(2 * delay_ns, kSentAgainNs, kSentAgainNsMax));
    }
    later(pipe->writer->first, 0, [this, end = *pipe->writer](Linked& linked) {
      Pipe* const broken = pipe_of(end);
      if (broken == nullptr) return;
      ends_.erase(end);
      broken->writer.reset();
      broken->held.clear();
      drop_if_closed(broken->number);
      step(linked, [&](peer::Link& link, int64_t now_ns, Effects& effects) {
        link.on_closed(end.second, peer::Ending::kFailed, "the connection was reset", now_ns, effects);
      });
    });
  });
}

void ByteLinks::drop_if_closed(uint64_t number) {
  const Pipe* const pipe = find_pipe(number);
  if (pipe != nullptr && !pipe->reader && !pipe->writer) pipes_.erase(number);
}

// --- connections that break by themselves

void ByteLinks::plan_trouble() {
  const uint64_t mean_ms = chance_.one_in(4) ? 300 : 3000;
  schedule_.after(static_cast<int64_t>(chance_.between(20, 2 * mean_ms)) * kMs, [this] {
    if (has_ended_) return;
    break_one();
    plan_trouble();
  });
}

void ByteLinks::break_one() {
  if (pipes_.empty()) return;
  Pipe& pipe = std::next(pipes_.begin(), static_cast<ptrdiff_t>(chance_.below(pipes_.size())))->second;
  if (!pipe.reader || !pipe.writer || pipe.is_silent || pipe.has_ended) return;
  coverage_.hit("byte links: connections broken");
  const uint64_t who_hears = chance_.below(6);  // 0: nobody, 1: who reads, 2: who writes, else both
  lose(pipe, chance_.below(pipe.kernel.size() + 1));
  if (who_hears != 1 && who_hears != 0) tell_writer(pipe.number, static_cast<int64_t>(chance_.below(100 * kMs)));
  if (who_hears == 0 || who_hears == 2) {
    pipe.is_silent = true;
    return;
  }
  pipe.has_ended = true;
  pipe.ending = chance_.one_in(2) ? peer::Ending::kEnded : peer::Ending::kFailed;
  plan_delivery(pipe, delay_ns());
}

}  // namespace cairn::sim
