// peer/testing_life.h: a Link under any order of events, chosen by bytes: dials and POSTs answered anyhow, bytes of any
// kind, ends, attachments, messages, time. It must hold its own rules: an id is never given twice, no effect names
// something that is over, and every snapshot is reported once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "peer/link.h"
#include "peer/msgapp_v2.h"
#include "peer/testing.h"
#include "testing/choices.h"

namespace cairn::peer::testing {

class LinkLife {
 public:
  explicit LinkLife(std::string_view bytes)
      : choices_(bytes), random_(bytes.size()), link_(options(bytes.size() % 7 == 0)) {
    link_.start(now_, effects_);
    settle();
  }

  void run() {
    while (!choices_.empty()) {
      step();
      settle();
    }
    link_.stop(effects_);
    settle();
    CAIRN_ASSERT(snapshots_sent_ == snapshots_reported_);
    CAIRN_ASSERT(dialling_.empty() && open_.empty() && writers_.empty() && posts_.empty());
    CAIRN_ASSERT(!link_.wake_at_ns());
  }

 private:
  static constexpr NodeId kSelf{1};
  static constexpr NodeId kPeer{2};

  static LinkOptions options(bool pipeline_only) {
    LinkOptions options;
    options.self = kSelf;
    options.peer = kPeer;
    options.self_urls = {"http://a:1"};
    options.peer_urls = {"http://b:1", "http://b:2"};
    options.pipeline_only = pipeline_only;
    options.limits.window_bytes = 4096;
    options.limits.stream_messages_max = 50;
    return options;
  }

  void began(LinkId id) {
    CAIRN_ASSERT(id > last_id_);
    last_id_ = id;
  }
  void ended(LinkId id) {
    const size_t erased = dialling_.erase(id) + open_.erase(id) + writers_.erase(id) + posts_.erase(id);
    CAIRN_ASSERT(erased == 1);
  }

  void settle() {
    for (Effect& effect : std::exchange(effects_, {})) {
      if (const auto* const dial = std::get_if<Dial>(&effect)) {
        began(dial->id);
        dialling_.insert(dial->id);
      } else if (const auto* const write = std::get_if<Write>(&effect)) {
        CAIRN_ASSERT(writers_.contains(write->id) && !write->bytes.empty());
        writers_[write->id] += write->bytes.size();
      } else if (const auto* const post = std::get_if<Post>(&effect)) {
        began(post->id);
        posts_.insert(post->id);
        CAIRN_ASSERT(posts_.size() <= 5);
      } else if (const auto* const snapshot = std::get_if<PostSnapshot>(&effect)) {
        began(snapshot->id);
        posts_.insert(snapshot->id);
      } else if (const auto* const close = std::get_if<Close>(&effect)) {
        ended(close->id);
      } else if (const auto* const deliver = std::get_if<Deliver>(&effect)) {
        for (const raft::Message& message : deliver->messages) CAIRN_ASSERT(message.to == kSelf);
      } else {
        const Report::Kind kind = std::get<Report>(effect).kind;
        if (kind == Report::Kind::kSnapshotDelivered || kind == Report::Kind::kSnapshotFailed) ++snapshots_reported_;
      }
    }
    CAIRN_ASSERT(dialling_.size() + open_.size() <= 3);
  }

  template <class Ids>
  LinkId pick(const Ids& ids) {
    if (ids.empty() || choices_.below(8) == 0) return choices_.below(static_cast<uint64_t>(last_id_) + 2);
    auto at = ids.begin();
    std::advance(at, static_cast<ptrdiff_t>(choices_.below(ids.size())));
    if constexpr (requires { at->first; }) {
      return at->first;
    } else {
      return *at;
    }
  }

  Answer some_answer() {
    static constexpr int kStatus[] = {200, 204, 403, 404, 410, 412, 500};
    Answer answer;
    answer.kind = static_cast<Answer::Kind>(choices_.below(4));
    if (choices_.below(2) == 0) answer.kind = Answer::Kind::kAnswered;
    answer.status = kStatus[choices_.below(std::size(kStatus))];
    answer.server_version = choices_.below(4) == 0 ? "" : "3.5.0";
    answer.body = choices_.below(2) == 0 ? "cluster ID mismatch\n" : "incompatible version\n";
    return answer;
  }

  void answer_dial() {
    const LinkId id = pick(dialling_);
    const Answer answer = some_answer();
    const bool was_dialling = dialling_.erase(id) != 0;
    const bool may_open = was_dialling && answer.kind == Answer::Kind::kAnswered;
    // A Close may follow an answer; then the Link takes it as open until then.
    if (may_open) open_.insert(id);
    link_.on_dialled(id, answer, now_, effects_);
    const bool is_closed = std::ranges::any_of(effects_, [&](const Effect& effect) {
      const auto* const close = std::get_if<Close>(&effect);
      return close != nullptr && close->id == id;
    });
    if (may_open && !is_closed && answer.status != 200) open_.erase(id);
  }

  void step() {
    switch (choices_.below(10)) {
      case 0: answer_dial(); return;
      case 1: {
        const LinkId id = pick(open_);
        link_.on_bytes(id, choices_.bytes(choices_.byte()), now_, effects_);
        return;
      }
      case 2: {
        const LinkId id = pick(open_);
        Pieces bytes;
        for (uint64_t left = choices_.below(4); left > 0; --left) {
          append_framed_message(bytes, some_message(random_, kPeer, kSelf));
        }
        link_.on_bytes(id, bytes.flat(), now_, effects_);
        return;
      }
      case 3: {
        const LinkId id = choices_.below(2) == 0 ? pick(open_) : pick(writers_);
        if (dialling_.contains(id)) return;
        open_.erase(id);
        writers_.erase(id);
        if (!posts_.contains(id)) link_.on_closed(id, static_cast<Ending>(choices_.below(2)), "closed", now_, effects_);
        return;
      }
      case 4: {
        const LinkId id = link_.on_attached(static_cast<StreamKind>(choices_.below(2)), now_, effects_);
        settle();
        began(id);
        writers_[id] = 0;
        return;
      }
      case 5: {
        const LinkId id = pick(writers_);
        const auto writer = writers_.find(id);
        if (writer == writers_.end() || writer->second == 0) return;
        const uint64_t bytes = std::min<uint64_t>(writer->second, 1 + choices_.below(256) * 20);
        writer->second -= bytes;
        link_.on_drained(id, bytes, now_, effects_);
        return;
      }
      case 6: {
        const LinkId id = pick(posts_);
        if (posts_.erase(id) != 0) link_.on_posted(id, some_answer(), now_, effects_);
        return;
      }
      case 7: {
        std::vector<raft::Message> messages;
        for (uint64_t left = choices_.below(20); left > 0; --left) {
          messages.push_back(some_message(random_, kSelf, kPeer));
          if (messages.back().type == raft::MessageType::kSnap) ++snapshots_sent_;
        }
        link_.send(std::move(messages), now_, effects_);
        return;
      }
      case 8: link_.redial_now(now_, effects_); return;
      default: {
        const auto wake = link_.wake_at_ns();
        now_ += choices_.below(256) * 20'000'000;
        if (choices_.below(2) == 0 && wake) now_ = std::max(now_, *wake);
        link_.on_time(now_, effects_);
        const auto next = link_.wake_at_ns();
        CAIRN_ASSERT(!next || *next > now_);
        return;
      }
    }
  }

  cairn::testing::Choices choices_;
  Random random_;
  int64_t now_ = 1'000'000'000;
  Effects effects_;
  Link link_;
  LinkId last_id_ = 0;
  std::set<LinkId> dialling_;
  std::set<LinkId> open_;
  std::map<LinkId, uint64_t> writers_;  // bytes not drained
  std::set<LinkId> posts_;
  size_t snapshots_sent_ = 0;
  size_t snapshots_reported_ = 0;
};

}  // namespace cairn::peer::testing
