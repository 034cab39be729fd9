// Histories of a correct cluster are right, each lie is found, and a search through all orders comes to the same
// verdicts.
#include "sim/history/judge.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/random.h"
#include "sim/history/answers.h"
#include "sim/history/generator.h"
#include "sim/history/mutations.h"
#include "sim/history/search.h"

namespace cairn::sim {
namespace {

std::string text_of(const Verdict& verdict) {
  std::string out = verdict.unjudged.empty() ? "" : "unjudged: " + verdict.unjudged + "\n";
  for (const std::string& one : verdict.violations) out += one + "\n";
  return out;
}
GeneratorOptions options_of(uint64_t seed) {
  Random chance(seed);
  return {.seed = seed,
          .clients = chance.between(1, 8),
          .operations = chance.between(10, 150),
          .keys = chance.between(1, 6),
          .unknown_one_in = chance.between(2, 20),
          .has_leases = chance.one_in(2),
          .has_compactions = chance.one_in(2)};
}

TEST(Judge, TakesWhatACorrectClusterGives) {
  Verdict sum;
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    for (const bool has_log : {true, false}) {
      for (const bool has_ids : {true, false}) {
        if (!has_log && has_ids) continue;
        GeneratorOptions options = options_of(seed);
        options.has_log = has_log;
        options.has_ids = has_ids;
        const Verdict verdict = judge(generate(options));
        ASSERT_TRUE(verdict.ok()) << "seed " << seed << (has_log ? " log" : " watch") << (has_ids ? " ids\n" : "\n")
                                  << text_of(verdict);
        sum.writes += verdict.writes;
        sum.reads += verdict.reads;
        sum.serializable_reads += verdict.serializable_reads;
        sum.unknown_applied += verdict.unknown_applied;
        sum.watch_events += verdict.watch_events;
      }
    }
  }
  EXPECT_GT(sum.writes, 50'000U);
  EXPECT_GT(sum.reads, 10'000U);
  EXPECT_GT(sum.serializable_reads, 2'000U);
  EXPECT_GT(sum.unknown_applied, 1'000U);
  EXPECT_GT(sum.watch_events, 50'000U);
}

TEST(Judge, FindsEachLie) {
  for (const Mutation& mutation : mutations()) {
    uint64_t applied = 0;
    for (uint64_t seed = 1; applied < 40; ++seed) {
      ASSERT_LT(seed, 5000U) << mutation.name << " never fits";
      GeneratorOptions options = options_of(seed);
      options.has_compactions = true;
      const History right = generate(options);
      for (const bool has_log : {true, false}) {
        History wrong = right;
        Random chance(seed);
        if (!mutation.apply(wrong, chance)) continue;
        if (!has_log) {
          // What is only in the log cannot be seen without it.
          if (mutation.needs_log && mutation.name != "stale read" && mutation.name != "read of the future") continue;
          wrong.log.clear();
          for (ClientOperation& one : wrong.operations) one.request_id = 0;
        }
        ++applied;
        EXPECT_FALSE(judge(wrong).ok()) << mutation.name << ", seed " << seed << (has_log ? " log" : " watch");
      }
    }
  }
}

TEST(Judge, NamesTheTwoThatContradict) {
  for (uint64_t seed = 1;; ++seed) {
    ASSERT_LT(seed, 100U);
    History history = generate({.seed = seed});
    Random chance(seed);
    const auto stale = std::find_if(mutations().begin(), mutations().end(),
                                    [](const Mutation& one) { return one.name == "stale read"; });
    if (!stale->apply(history, chance)) continue;
    const Verdict verdict = judge(history);
    ASSERT_FALSE(verdict.ok());
    EXPECT_NE(verdict.violations.front().find("it was called after the end of\nclient "), std::string::npos)
        << text_of(verdict);
    return;
  }
}

// --- by hand

ClientOperation put_of(uint64_t client, std::string key, std::string value, int64_t call_ns,
                       std::optional<int64_t> return_ns, int64_t revision) {
  etcdserverpb::PutRequest request;
  request.set_key(std::move(key));
  request.set_value(std::move(value));
  ClientOperation one{.client = client, .rpc = Rpc::kPut, .request = request.SerializeAsString(), .call_ns = call_ns};
  one.return_ns = return_ns;
  if (revision == 0) return one;
  etcdserverpb::PutResponse response;
  response.mutable_header()->set_revision(revision);
  one.outcome = Outcome::kAnswered;
  one.response = response.SerializeAsString();
  return one;
}
void log_them(History& history, const std::vector<uint32_t>& order) {
  for (const uint32_t i : order) {
    ClientOperation& one = history.operations[i];
    one.request_id = i + 1;
    history.log.push_back({.index = Index(history.log.size() + 1),
                           .term = Term(1),
                           .bytes = proposal_of(one.rpc, one.request, one.request_id)->SerializeAsString(),
                           .request_id = one.request_id});
  }
}

TEST(Judge, AnUnknownPutMayComeLateAndNeverEarly) {
  History history;
  history.operations = {put_of(1, "a", "1", 10, std::nullopt, 0), put_of(2, "a", "2", 20, 30, 2)};
  log_them(history, {1, 0});  // late
  EXPECT_EQ(text_of(judge(history)), "");
  history.operations[0].call_ns = 31;  // called after the other, so it may follow
  EXPECT_EQ(text_of(judge(history)), "");
  history.log.clear();
  history.operations[1] = put_of(2, "a", "2", 20, 30, 3);
  log_them(history, {0, 1});  // called at 31, and before what ended at 30
  const Verdict verdict = judge(history);
  ASSERT_EQ(verdict.violations.size(), 1U);
  EXPECT_EQ(verdict.violations.front(),
            "client 1: Put key: \"a\" value: \"1\" called 31 as 1: unknown\n"
            "  is entry 1 (revision 2), but it was called after the end of\n"
            "client 2: Put key: \"a\" value: \"2\" called 20 as 2, returned 30: revision 3\n"
            "  which is entry 2 (revision 3)");
}

TEST(Judge, EqualTimesAreConcurrent) {
  History history;
  history.operations = {put_of(1, "a", "1", 10, 20, 3), put_of(2, "a", "2", 20, 30, 2)};
  log_them(history, {1, 0});
  EXPECT_EQ(text_of(judge(history)), "");
  history.operations[1].call_ns = 21;
  EXPECT_EQ(judge(history).violations.size(), 1U);
}

TEST(Judge, WithoutTheWholeWatchItSaysSo) {
  History history = generate({.seed = 3, .has_log = false});
  auto& responses = history.watches.front().responses;
  const auto has_events = [](const Watch::Response& one) {
    etcdserverpb::WatchResponse response;
    return response.ParseFromString(one.bytes) && response.events_size() > 0;
  };
  while (!has_events(responses.back())) responses.pop_back();
  responses.pop_back();
  history.watches.resize(1);
  EXPECT_NE(judge(history).unjudged, "");
}

// As chaos on etcd's and Cairn's processes showed it.
TEST(Judge, ACompactionMayBeOlderThanItsAnswer) {
  History history;
  history.operations = {put_of(1, "a", "1", 10, 11, 2), put_of(1, "a", "2", 12, 13, 3), put_of(1, "a", "3", 40, 41, 4)};
  etcdserverpb::CompactionRequest compaction;
  compaction.set_revision(3);
  compaction.set_physical(true);
  etcdserverpb::CompactionResponse compacted;
  compacted.mutable_header()->set_revision(4);
  history.operations.push_back(
      {.client = 2, .rpc = Rpc::kCompact, .request = compaction.SerializeAsString(), .call_ns = 20});
  history.operations.back().return_ns = 50;
  history.operations.back().outcome = Outcome::kAnswered;
  history.operations.back().response = compacted.SerializeAsString();
  etcdserverpb::RangeRequest range;
  range.set_key("a");
  range.set_revision(2);
  history.operations.push_back({.client = 3, .rpc = Rpc::kRange, .request = range.SerializeAsString(), .call_ns = 30});
  history.operations.back().return_ns = 31;
  history.operations.back().outcome = Outcome::kAnswered;
  history.operations.back().code = Code::kOutOfRange;
  history.operations.back().response = errors::compacted().message;

  etcdserverpb::WatchCreateRequest all;
  all.set_key(std::string(1, '\0'));
  all.set_range_end(std::string(1, '\0'));
  all.set_start_revision(1);
  Watch watch{.client = 4, .call_ns = 1, .request = all.SerializeAsString()};
  for (int64_t revision = 2; revision <= 4; ++revision) {
    etcdserverpb::WatchResponse response;
    response.mutable_header()->set_revision(revision);
    auto* const kv = response.add_events()->mutable_kv();
    kv->set_key("a");
    kv->set_value(std::to_string(revision - 1));
    kv->set_create_revision(2);
    kv->set_mod_revision(revision);
    kv->set_version(revision - 1);
    watch.responses.push_back({.time_ns = 60, .bytes = response.SerializeAsString()});
  }
  history.watches.push_back(std::move(watch));
  EXPECT_EQ(text_of(judge(history)), "");
  history.operations.back().return_ns = 51;  // a read that saw it gone, of what was not compacted
  range.set_revision(3);
  history.operations.back().request = range.SerializeAsString();
  EXPECT_FALSE(judge(history).ok());
}

TEST(Outcome, OfErrors) {
  EXPECT_EQ(outcome_of(Code::kOutOfRange, errors::compacted().message), Outcome::kAnswered);
  EXPECT_EQ(outcome_of(Code::kUnknown, errors::request_too_many_requests().message), Outcome::kRefused);
  EXPECT_EQ(outcome_of(Code::kUnavailable, errors::timeout().message), Outcome::kUnknown);
  EXPECT_EQ(outcome_of(Code::kResourceExhausted, errors::no_space().message), Outcome::kUnknown);
  EXPECT_EQ(outcome_of(Code::kUnavailable, "error reading from server: EOF"), Outcome::kUnknown);
}

// --- the twin

// What the search understands: no leases, no compactions, no old revisions, no prev_kv.
std::vector<ClientOperation> simple(History history) {
  std::vector<ClientOperation> out;
  for (ClientOperation& one : history.operations) {
    if (one.rpc == Rpc::kRange) {
      etcdserverpb::RangeRequest request;
      request.ParseFromString(one.request);
      if (request.revision() != 0 || request.serializable()) continue;
    }
    if (path_of(one.rpc, one.request) == Path::kSerializable) continue;
    out.push_back(std::move(one));
  }
  return out;
}

TEST(Judge, AgreesWithTheSearch) {
  uint64_t right = 0;
  uint64_t wrong = 0;
  uint64_t same = 0;
  for (uint64_t seed = 1; seed <= 6000; ++seed) {
    Random chance(seed);
    GeneratorOptions options{.seed = seed, .clients = chance.between(2, 4), .operations = chance.between(3, 9)};
    options.keys = chance.between(1, 2);
    options.unknown_one_in = chance.between(2, 8);
    options.has_leases = options.has_compactions = false;
    options.is_for_etcd = true;
    options.watches = 0;
    History history = generate(options);
    history.operations = simple(history);
    // One to three lies, in three cases of four.
    for (uint64_t lies = chance.below(4); lies > 0; --lies) {
      const Mutation& mutation = mutations()[chance.below(mutations().size())];
      if (!mutation.is_in_watch && mutation.is_known_to_etcd) mutation.apply(history, chance);
    }
    const auto order = search_order(history.operations);
    ++(order ? right : wrong);
    const bool by_log = judge(history).ok();
    History watched = history;
    watched.log.clear();
    const bool by_watch = judge(watched).ok();
    same += by_log == order.has_value() ? 1 : 0;
    if (!order) {
      EXPECT_FALSE(by_log) << "seed " << seed;
      EXPECT_FALSE(by_watch) << "seed " << seed;
      continue;
    }
    // The order that was found is a witness too.
    std::vector<uint32_t> writes;
    for (const uint32_t i : *order) {
      const ClientOperation& one = history.operations[i];
      if (path_of(one.rpc, one.request) == Path::kLog) writes.push_back(i);
    }
    history.log.clear();
    log_them(history, writes);
    history.watches.clear();
    const Verdict verdict = judge(history);
    EXPECT_TRUE(verdict.ok()) << "seed " << seed << "\n" << text_of(verdict);
  }
  EXPECT_GT(right, 2000U);
  EXPECT_GT(wrong, 1000U);
  EXPECT_GT(same, 5900U);
}

}  // namespace
}  // namespace cairn::sim
