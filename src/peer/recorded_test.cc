// What members of etcd 3.4 to 3.7 sent to each other (tests/oracles/peerwire made the recordings): it is read, and it
// is written again as the same bytes.
//
// Members up to 3.5 write an empty snapshot into each message and no `vote`; 3.7 leaves out what was never set. So with
// 3.6 the bytes of every frame are equal; with 3.4 and 3.5 they are after these two differences are taken out; with 3.7
// every value is equal.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "peer/codec.h"
#include "peer/msgapp_v2.h"
#include "peer/testing.h"
#include "proto/raft.pb.h"

namespace cairn::peer {
namespace {

namespace fs = std::filesystem;

const fs::path kData = "src/peer/testdata";

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

// "msgapp-<n>-<writer>-<reader>"
struct Recording {
  std::string kind;
  NodeId writer;
  NodeId reader;
  std::string bytes;
};
Recording load(const fs::path& path) {
  std::vector<std::string> words;
  std::stringstream name(path.filename().string());
  for (std::string word; std::getline(name, word, '-');) words.push_back(word);
  Recording out{.kind = words.at(0), .writer = {}, .reader = {}, .bytes = contents(path)};
  if (words.size() == 4) {
    out.writer = NodeId(parse_hex(words[2]).value());
    out.reader = NodeId(parse_hex(words[3]).value());
  }
  return out;
}

std::string encode(const raft::Message& message) {
  Pieces out;
  append_message(out, message);
  return out.flat();
}

// Bytes of a message in the form of a version. Versions up to 3.5 by way of protobuf, whose classes write what is set.
std::string in_form_of(std::string_view version, const raft::Message& message) {
  std::string bytes = encode(message);
  if (version == "3.6") return bytes;
  raftpb::Message older;
  EXPECT_TRUE(older.ParseFromString(bytes));
  older.clear_vote();
  if (!older.has_snapshot()) {
    raftpb::SnapshotMetadata& metadata = *older.mutable_snapshot()->mutable_metadata();
    metadata.mutable_conf_state()->set_auto_leave(false);
    metadata.set_index(0);
    metadata.set_term(0);
  }
  return older.SerializeAsString();
}

bool same_values(const std::string& recorded, const raft::Message& message) {
  raftpb::Message theirs;
  raftpb::Message ours;
  return theirs.ParseFromString(recorded) && ours.ParseFromString(encode(message)) &&
         google::protobuf::util::MessageDifferencer::Equivalent(theirs, ours);
}

void expect_same_message(std::string_view version, const std::string& recorded, const raft::Message& message) {
  if (version == "3.7") {
    ASSERT_TRUE(same_values(recorded, message)) << to_hex(recorded);
  } else {
    ASSERT_EQ(to_hex(in_form_of(version, message)), to_hex(recorded));
  }
}

// The recorded frames of a stream, whole ones only, without heartbeats. Written without the code under test.
std::vector<std::string> frames_of_messages(std::string_view bytes) {
  std::vector<std::string> out;
  while (bytes.size() >= 8 && bytes.size() - 8 >= load_be64(bytes.data())) {
    out.emplace_back(bytes.substr(8, load_be64(bytes.data())));
    bytes.remove_prefix(8 + out.back().size());
    raftpb::Message read;
    EXPECT_TRUE(read.ParseFromString(out.back()));
    if (read.from() == 0 && read.to() == 0) out.pop_back();
  }
  return out;
}
std::vector<std::string> frames_of_msgapp(std::string_view bytes) {
  std::vector<std::string> out;
  const auto length_at = [&](size_t at) {
    return at + 8 <= bytes.size() ? load_be64(bytes.data() + at) : bytes.size();
  };
  while (!bytes.empty()) {
    size_t size = 1;
    if (bytes[0] == 2) size = 9 + length_at(1);
    if (bytes[0] == 1) {
      size = 9;
      for (uint64_t left = length_at(1); left > 0 && size <= bytes.size(); --left) size += 8 + length_at(size);
      size += 8;
    }
    if (size > bytes.size()) break;
    if (bytes[0] != 0) out.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  return out;
}

// Cut anywhere.
template <class Decoder>
std::vector<raft::Message> read_all(Decoder decoder, std::string_view bytes, uint64_t seed) {
  std::vector<raft::Message> out;
  Random random(seed);
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), random.between(1, 200));
    const Status read = decoder.feed(std::string(bytes.substr(0, part)), out);
    EXPECT_TRUE(read) << read.error().message;
    bytes.remove_prefix(part);
  }
  return out;
}

void check_message_stream(std::string_view version, const Recording& recording, std::set<raft::MessageType>& seen) {
  const std::vector<std::string> frames = frames_of_messages(recording.bytes);
  const std::vector<raft::Message> messages = read_all(MessageDecoder(), recording.bytes, 1);
  ASSERT_EQ(messages.size(), frames.size());
  for (size_t at = 0; at < frames.size(); ++at) {
    expect_same_message(version, frames[at], messages[at]);
    seen.insert(messages[at].type);
    if (recording.kind == "message") {
      ASSERT_EQ(messages[at].to, recording.reader);
    }
  }
}

void check_msgapp_stream(std::string_view version, const Recording& recording, size_t& short_forms) {
  const std::vector<std::string> frames = frames_of_msgapp(recording.bytes);
  const std::vector<raft::Message> messages =
      read_all(MsgAppV2Decoder(recording.reader, recording.writer), recording.bytes, 2);
  ASSERT_EQ(messages.size(), frames.size());
  MsgAppV2Encoder encoder;
  for (size_t at = 0; at < frames.size(); ++at) {
    const raft::Message& message = messages[at];
    ASSERT_EQ(message.type, raft::MessageType::kApp);
    ASSERT_EQ(message.from, recording.writer);
    ASSERT_EQ(message.to, recording.reader);
    Pieces written;
    encoder.append(written, message);
    const std::string again = written.flat();
    ASSERT_EQ(again[0], frames[at][0]) << "form of frame " << at;
    if (again[0] == 2) {
      expect_same_message(version, frames[at].substr(9), message);
    } else if (version != "3.7") {
      ASSERT_EQ(to_hex(again), to_hex(frames[at]));
      ++short_forms;
    } else {
      // What the short form leaves out is counted along; the entries' own bytes say whether it was counted well.
      ASSERT_EQ(load_be64(frames[at].data() + frames[at].size() - 8), message.commit.value);
      for (size_t entry = 0; entry < message.entries.size(); ++entry) {
        ASSERT_EQ(message.entries[entry].index, message.index + entry + 1);
      }
      ++short_forms;
    }
  }
}

TEST(PeerRecordings, AreReadAndWrittenAgain) {
  size_t versions = 0;
  for (const auto& folder : fs::directory_iterator(kData)) {
    SCOPED_TRACE(folder.path().string());
    ++versions;
    const std::string version = folder.path().filename().string().substr(5, 3);  // "etcd-3.6.5"
    std::set<raft::MessageType> seen;
    size_t short_forms = 0;
    bool has_snapshot = false;
    for (const auto& file : fs::directory_iterator(folder)) {
      SCOPED_TRACE(file.path().string());
      const Recording recording = load(file.path());
      if (recording.kind == "msgapp") {
        check_msgapp_stream(version, recording, short_forms);
      } else {
        check_message_stream(version, recording, seen);
        has_snapshot |= recording.kind == "snapshot";
      }
      if (::testing::Test::HasFatalFailure()) return;
    }
    EXPECT_TRUE(has_snapshot);
    EXPECT_GT(short_forms, 10U);
    using raft::MessageType;
    for (const MessageType type :
         {MessageType::kProp, MessageType::kAppResp, MessageType::kSnap, MessageType::kHeartbeat,
          MessageType::kHeartbeatResp, MessageType::kTimeoutNow, MessageType::kReadIndex, MessageType::kReadIndexResp,
          MessageType::kVote, MessageType::kVoteResp}) {
      EXPECT_TRUE(seen.contains(type)) << raft::name_of(type);
    }
  }
  EXPECT_EQ(versions, 4U);
}

// The snapshot of a cluster of two members and a learner, as each version sends it.
TEST(PeerRecordings, ASnapshotHasItsConfiguration) {
  for (const auto& folder : fs::directory_iterator(kData)) {
    SCOPED_TRACE(folder.path().string());
    const std::vector<raft::Message> messages = read_all(MessageDecoder(), contents(folder.path() / "snapshot"), 3);
    ASSERT_EQ(messages.size(), 1U);
    const raft::Snapshot& snapshot = *messages[0].snapshot;
    EXPECT_GT(snapshot.index, Index(5000));
    EXPECT_EQ(snapshot.conf.voters.size(), 2U);
    EXPECT_EQ(snapshot.conf.learners, std::vector{messages[0].to});
    EXPECT_FALSE(snapshot.conf.auto_leave);
  }
}

}  // namespace
}  // namespace cairn::peer
