// The session without sockets: hostile bytes, made by damaging what a good client says.
#include "net/http2/http2_session.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include "base/random.h"
#include "net/http2/framing.h"
#include "net/http2/gzip.h"
#include "net/testing/session_driver.h"

namespace cairn::net {
namespace {

// What a client says.
class ClientSpeech {
 public:
  ClientSpeech() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_client_new(&session_, callbacks, nullptr);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~ClientSpeech() { nghttp2_session_del(session_); }
  ClientSpeech(const ClientSpeech&) = delete;
  ClientSpeech& operator=(const ClientSpeech&) = delete;

  [[nodiscard]] nghttp2_session* session() { return session_; }
  // A call whose body are these framed messages.
  int32_t call(const std::string& path, std::string framed, const std::pair<std::string, std::string>& field) {
    const std::pair<std::string, std::string> fields[] = {{":method", "POST"},
                                                          {":scheme", "http"},
                                                          {":path", path},
                                                          {":authority", "x"},
                                                          {"content-type", "application/grpc"},
                                                          {"te", "trailers"},
                                                          field};
    std::vector<nghttp2_nv> headers;
    for (const auto& [name, value] : fields) {
      headers.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                         reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), 0});
    }
    bodies_.push_back(std::make_unique<Body>(Body{std::move(framed)}));
    nghttp2_data_provider provider{};
    provider.source.ptr = bodies_.back().get();
    provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                                nghttp2_data_source* source, void*) -> ssize_t {
      auto& body = *static_cast<Body*>(source->ptr);
      const size_t bytes = std::min(length, body.bytes.size() - body.at);
      std::copy_n(body.bytes.data() + body.at, bytes, buffer);
      body.at += bytes;
      if (body.at == body.bytes.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(bytes);
    };
    return nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &provider, nullptr);
  }
  std::string bytes() {
    std::string out;
    const uint8_t* data = nullptr;
    for (ssize_t length = 0; (length = nghttp2_session_mem_send(session_, &data)) > 0;) {
      out.append(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
    }
    return out;
  }

 private:
  struct Body {
    std::string bytes;
    size_t at = 0;
  };
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<Body>> bodies_;
};

std::string framed(std::string_view message, bool compressed = false) {
  char prefix[kPrefixBytes];
  write_prefix(prefix, static_cast<uint32_t>(message.size()), compressed);
  return std::string(prefix, kPrefixBytes).append(message);
}

// What a client sends that makes some calls; random, valid.
std::string client_bytes(Random& random) {
  static constexpr std::string_view kPaths[] = {"/test.Svc/Echo", "/test.Svc/Chat", "/test.Svc/Produce",
                                                "/test.Svc/Nope"};
  ClientSpeech client;
  int pings = 0;  // the fourth would be too many
  for (uint64_t i = 1 + random.below(6); i > 0; --i) {
    const std::string path(kPaths[random.below(4)]);
    const std::string token = std::to_string(random.below(3));
    std::string body;
    for (uint64_t m = random.below(4); m > 0; --m) body += framed(std::string(random.below(300), 'm'));
    const int32_t id = client.call(path, std::move(body), {"token", token});
    if (random.one_in(5)) nghttp2_submit_rst_stream(client.session(), 0, id, NGHTTP2_CANCEL);
    if (random.one_in(5) && ++pings < 4) nghttp2_submit_ping(client.session(), 0, nullptr);
    if (random.one_in(5)) nghttp2_submit_window_update(client.session(), 0, random.one_in(2) ? 0 : id, 1000);
  }
  return client.bytes();
}

// Each of 300 messages is to become more than is allowed.
TEST(Http2Session, ACompressedMessageWaitsForNoMoreThanASliceOfEachConnection) {
  const std::pair<std::string, std::string> encoding("grpc-encoding", "gzip");
  const auto loop = std::make_shared<Loop>(0);
  SessionDriver bombers[3] = {SessionDriver(loop), SessionDriver(loop), SessionDriver(loop)};
  SessionDriver honest(loop);
  for (SessionDriver& bomber : bombers) {
    ClientSpeech client;
    for (int i = 0; i < 100; ++i)
      client.call("/test.Svc/Echo", framed(*gzip(std::string(20'000, 'z')), true), encoding);
    EXPECT_TRUE(bomber.feed(client.bytes()));
  }
  ClientSpeech client;
  client.call("/test.Svc/Echo", framed(*gzip("a message"), true), encoding);
  EXPECT_TRUE(honest.feed(client.bytes()));  // a turn
  EXPECT_TRUE(honest.feed(""));
  EXPECT_EQ(honest.ended(), 1);
  EXPECT_LT(bombers[0].ended() + bombers[1].ended() + bombers[2].ended(), 300) << "the test had too few to do";
}

TEST(Http2Session, EveryCallEndsOnceWhateverIsDamaged) {
  int calls = 0;
  uint64_t sent_bytes = 0;
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::string bytes = client_bytes(random);
    if (seed % 4 != 0) {
      for (uint64_t i = 1 + random.below(8); i > 0; --i) {
        const size_t at = random.below(bytes.size());
        switch (random.below(4)) {
          case 0: bytes[at] = static_cast<char>(random.below(256)); break;
          case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8))); break;
          case 2: bytes.erase(at, random.below(20)); break;
          default: bytes.insert(at, bytes.substr(random.below(bytes.size()), random.below(60)));
        }
        if (bytes.empty()) bytes = "x";
      }
    }
    SessionDriver driver;  // asserts at its end that calls begun and ended are equal
    std::string_view rest = bytes;
    bool open = true;
    while (open && !rest.empty()) {
      const size_t step = random.one_in(3) ? rest.size() : 1 + random.below(50);
      open = driver.feed(rest.substr(0, step));
      rest.remove_prefix(std::min(step, rest.size()));
    }
    if (seed % 4 == 0) {
      EXPECT_TRUE(open);
    }
    calls += driver.begun();
    sent_bytes += driver.sent_bytes;
  }
  EXPECT_GT(calls, 3000);
  EXPECT_GT(sent_bytes, 100'000U);
}

}  // namespace
}  // namespace cairn::net
