// auth/tokens.h: what a client shows instead of its password: simple tokens, or JSON web tokens (auth/jwt.h).
//
// A simple token is "<16 random letters>.<index>": the index before that of its log entry; in a cluster of 3.4 that of
// the entry. The entry of each Authenticate tells every member of it; it is kept in memory only. A member that starts
// again knows none from before, and clients authenticate again.
// A simple token ends when it was not used for its TTL. Whoever holds one acts by the rules of now; a JWT names the
// revision of the rules that it was signed under.
//
// An io thread remembers the sessions that it has seen (SessionMemo), so that a token is looked up, or its signature
// checked, once a thread.
//
// Threads: find(), renew(), new_prefix(), sign() from any. The rest: the core thread's.
// Source:  etcd's token providers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "auth/rules.h"
#include "base/error.h"
#include "base/keyed_hash.h"
#include "base/mutex.h"
#include "env/clock.h"

namespace cairn::auth {

// A token that is, or was, good.
struct Session {
  std::string token;
  std::string user;
  std::optional<uint64_t> revision;  // of a JWT; none: that of now
  std::atomic<int64_t> ends_ns{};    // of the provider's clock
  std::atomic<bool> is_over{false};

  [[nodiscard]] Identity identity(uint64_t revision_now) const {
    return {.is_known = true, .user = user, .revision = revision.value_or(revision_now)};
  }
};

class Tokens {
 public:
  virtual ~Tokens() = default;

  // The session of a token; null: of none that is good.
  [[nodiscard]] virtual std::shared_ptr<Session> find(std::string_view token) = 0;
  // The index that a token names, of a provider whose tokens come by entries: it knows the token once the next entry is
  // applied.
  [[nodiscard]] virtual std::optional<uint64_t> index_before(std::string_view) const { return std::nullopt; }
  // The session is used. False: it is over.
  [[nodiscard]] virtual bool renew(Session& session) const = 0;

  // How an Authenticate becomes a token: the letters that its entry carries ("" for a JWT), and for a JWT the token.
  //   errors: auth_failed: this member gives no tokens; verify_only
  [[nodiscard]] virtual Result<std::string> new_prefix() { return std::string(); }
  [[nodiscard]] virtual bool signs() const { return false; }
  [[nodiscard]] virtual Result<std::string> sign(std::string_view user, uint64_t revision) = 0;

  // What the log says: the entry at `index` gave `user` a token with this prefix. Returns the token; "": it is signed
  // elsewhere.
  virtual std::string assign(std::string_view user, std::string_view prefix, uint64_t index) = 0;
  virtual void invalidate_user(std::string_view) {}
  virtual void enable() {}
  virtual void disable() {}
};

[[nodiscard]] std::string simple_token(std::string_view prefix, uint64_t index);
// What the log says of a token: a part of its hash.
[[nodiscard]] std::string fingerprint(std::string_view token);

class SimpleTokens final : public Tokens {
 public:
  SimpleTokens(const env::Clock& clock, int64_t ttl_ns) : clock_(clock), ttl_ns_(ttl_ns) {}

  std::shared_ptr<Session> find(std::string_view token) override;
  [[nodiscard]] std::optional<uint64_t> index_before(std::string_view token) const override;
  bool renew(Session& session) const override;
  Result<std::string> new_prefix() override;
  Result<std::string> sign(std::string_view user, uint64_t revision) override;
  std::string assign(std::string_view user, std::string_view prefix, uint64_t index) override;
  void invalidate_user(std::string_view user) override;
  void enable() override;
  void disable() override;

  [[nodiscard]] size_t size();

 private:
  template <class Which>
  void end_sessions(const Which& which) CAIRN_REQUIRES(mutex_);

  const env::Clock& clock_;
  const int64_t ttl_ns_;
  Mutex mutex_;
  bool is_enabled_ CAIRN_GUARDED_BY(mutex_) = false;
  // By the index, which is no secret: the letters are compared in a time that does not depend on them.
  std::unordered_map<uint64_t, std::shared_ptr<Session>> sessions_ CAIRN_GUARDED_BY(mutex_);
  int64_t next_sweep_ns_ CAIRN_GUARDED_BY(mutex_) = 0;
};

// With --auth-token="": nobody gets a token, and none is good. Certificates still name users.
class NoTokens final : public Tokens {
 public:
  std::shared_ptr<Session> find(std::string_view) override { return nullptr; }
  bool renew(Session&) const override { return false; }
  Result<std::string> new_prefix() override;
  Result<std::string> sign(std::string_view user, uint64_t revision) override;
  std::string assign(std::string_view, std::string_view, uint64_t) override { return {}; }
};

// The sessions that one thread has seen.
class SessionMemo {
 public:
  SessionMemo(Tokens& tokens, uint64_t secret) : tokens_(tokens), hash_(secret) {}

  // Null: the token is not good.
  [[nodiscard]] const Session* find(std::string_view token);
  [[nodiscard]] size_t size() const { return sessions_.size(); }

 private:
  static constexpr size_t kSessionsMax = 4096;  // then all are looked up again

  Tokens& tokens_;
  KeyedHash hash_;
  std::unordered_map<uint64_t, std::shared_ptr<Session>> sessions_;  // by hash_(token)
};

// What a call shows of who makes it.
struct Credentials {
  std::optional<std::string_view> token = {};  // metadata "token", else "authorization"; see without_bearer()
  // The subject's common name in the client's certificate, which was verified; none without --client-cert-auth. An
  // empty one is that of somebody who is known, and whom no permission names.
  std::optional<std::string_view> common_name = {};
  // Through the JSON gateway: the certificate is the gateway's then (CVE-2018-16886).
  bool is_through_gateway = false;
};
// Without "Bearer " in front.
[[nodiscard]] std::string_view without_bearer(std::string_view token);
// Somebody who is not known is an Identity, too: what may be done without a name is for the rules to say.
//   errors: invalid_auth_token
[[nodiscard]] Result<Identity> identify(const Credentials& shown, const Rules& rules, SessionMemo& sessions);

// The parts of --auth-token: "simple", "jwt,pub-key=...,priv-key=...,sign-method=RS256,ttl=10m" or "".
struct TokenOptions {
  enum class Kind : uint8_t { kSimple, kJwt, kNone };
  Kind kind = Kind::kSimple;
  std::string sign_method;
  std::string public_key_file;
  std::string private_key_file;
  int64_t ttl_ns = 300'000'000'000;  // of a JWT
  std::vector<std::string> unknown;  // names that mean nothing; of a JWT
};
//   errors: kInvalidArgument with etcd's text
[[nodiscard]] Result<TokenOptions> parse_token_options(std::string_view text);

}  // namespace cairn::auth
