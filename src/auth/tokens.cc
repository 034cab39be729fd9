#include "auth/tokens.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <charconv>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/go_duration.h"
#include "base/utf8.h"

namespace cairn::auth {
namespace {

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr size_t kPrefixLetters = 16;
constexpr int64_t kSweepNs = 1'000'000'000;
// A session's end moves by no less, so that threads need not share it; a use that does not move it is made up for. etcd
// looks once a second for those that are over, so they last as long there.
constexpr int64_t kNoticedNs = 1'000'000'000;

// The time does not depend on where they differ.
bool are_equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// The index in a simple token; nullopt: it is none.
std::optional<uint64_t> index_of(std::string_view token) {
  const size_t dot = token.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view digits = token.substr(dot + 1);
  uint64_t index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return index;
}

std::unexpected<Error> invalid_options() { return fail(Code::kInvalidArgument, "auth: invalid auth options"); }

}  // namespace

std::string simple_token(std::string_view prefix, uint64_t index) { return fmt::format("{}.{}", prefix, index); }

std::string fingerprint(std::string_view token) {
  constexpr size_t kBytes = 6;
  unsigned char hash[EVP_MAX_MD_SIZE] = {};
  unsigned int size = 0;
  if (EVP_Digest(token.data(), token.size(), hash, &size, EVP_sha256(), nullptr) != 1) return {};
  return to_hex({reinterpret_cast<const char*>(hash), kBytes});
}

std::string_view without_bearer(std::string_view token) {
  constexpr std::string_view kBearer = "Bearer ";
  if (token.starts_with(kBearer)) token.remove_prefix(kBearer.size());
  return token;
}

std::shared_ptr<Session> SimpleTokens::find(std::string_view token) {
  const auto index = index_of(token);
  if (!index) return nullptr;
  MutexLock lock(mutex_);
  const auto found = sessions_.find(*index);
  if (found == sessions_.end() || !are_equal(found->second->token, token)) return nullptr;
  return found->second;
}

std::optional<uint64_t> SimpleTokens::index_before(std::string_view token) const { return index_of(token); }

bool SimpleTokens::renew(Session& session) const {
  const int64_t now_ns = clock_.monotonic_ns();
  const int64_t ends_ns = session.ends_ns.load(std::memory_order_relaxed);
  if (session.is_over.load(std::memory_order_acquire) || now_ns >= ends_ns) return false;
  const int64_t new_end_ns = now_ns + ttl_ns_ + kNoticedNs;
  if (new_end_ns - ends_ns >= kNoticedNs) session.ends_ns.store(new_end_ns, std::memory_order_relaxed);
  return true;
}

Result<std::string> SimpleTokens::new_prefix() {
  std::string prefix;
  while (prefix.size() < kPrefixLetters) {
    unsigned char bytes[2 * kPrefixLetters] = {};
    if (RAND_bytes(bytes, sizeof bytes) != 1) return fail(Code::kInternal, "auth: no random bytes");
    for (const unsigned char byte : bytes) {
      // All letters are equally likely.
      if (byte < 256 / kLetters.size() * kLetters.size() && prefix.size() < kPrefixLetters) {
        prefix += kLetters[byte % kLetters.size()];
      }
    }
  }
  return prefix;
}

Result<std::string> SimpleTokens::sign(std::string_view, uint64_t) {
  return fail(Code::kInternal, "auth: simple tokens are not signed");
}

template <class Which>
void SimpleTokens::end_sessions(const Which& which) {
  std::erase_if(sessions_, [&](const auto& one) {
    if (!which(*one.second)) return false;
    one.second->is_over.store(true, std::memory_order_release);
    return true;
  });
}

std::string SimpleTokens::assign(std::string_view user, std::string_view prefix, uint64_t index) {
  const int64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  if (!is_enabled_) return {};
  if (now_ns >= next_sweep_ns_) {
    end_sessions([&](const Session& one) { return now_ns >= one.ends_ns.load(std::memory_order_relaxed); });
    next_sweep_ns_ = now_ns + kSweepNs;
  }
  auto session = std::make_shared<Session>();
  session->token = simple_token(prefix, index);
  session->user = user;
  session->ends_ns = now_ns + ttl_ns_ + kNoticedNs;
  return sessions_.insert_or_assign(index, std::move(session)).first->second->token;
}

void SimpleTokens::invalidate_user(std::string_view user) {
  MutexLock lock(mutex_);
  end_sessions([&](const Session& one) { return one.user == user; });
}

void SimpleTokens::enable() {
  MutexLock lock(mutex_);
  is_enabled_ = true;
}

void SimpleTokens::disable() {
  MutexLock lock(mutex_);
  is_enabled_ = false;
  end_sessions([](const Session&) { return true; });
}

size_t SimpleTokens::size() {
  MutexLock lock(mutex_);
  return sessions_.size();
}

Result<std::string> NoTokens::new_prefix() { return std::unexpected(errors::auth_failed()); }
Result<std::string> NoTokens::sign(std::string_view, uint64_t) { return std::unexpected(errors::auth_failed()); }

const Session* SessionMemo::find(std::string_view token) {
  const uint64_t hash = hash_(token);
  const auto known = sessions_.find(hash);
  if (known != sessions_.end() && are_equal(known->second->token, token)) {
    if (tokens_.renew(*known->second)) return known->second.get();
    sessions_.erase(known);
    return nullptr;
  }
  std::shared_ptr<Session> found = tokens_.find(token);
  if (found == nullptr || !tokens_.renew(*found)) return nullptr;
  if (sessions_.size() >= kSessionsMax) sessions_.clear();
  return sessions_.insert_or_assign(hash, std::move(found)).first->second.get();
}

Result<Identity> identify(const Credentials& shown, const Rules& rules, SessionMemo& sessions) {
  if (!rules.enabled()) return Identity{};
  if (shown.token) {
    const Session* const session = sessions.find(without_bearer(*shown.token));
    if (session == nullptr) return std::unexpected(errors::invalid_auth_token());
    return session->identity(rules.revision());
  }
  // The name goes into log entries, whose strings are UTF-8 or cannot be read.
  const bool is_name = shown.common_name && is_utf8(*shown.common_name);
  if (!is_name || shown.is_through_gateway) return Identity{};
  return Identity{.is_known = true, .user = std::string(*shown.common_name), .revision = rules.revision()};
}

Result<TokenOptions> parse_token_options(std::string_view text) {
  const auto next_part = [&] {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    return std::pair(part, comma != std::string_view::npos);
  };
  TokenOptions options;
  auto [kind, more] = next_part();
  std::unordered_map<std::string, std::string> values;
  while (more) {
    std::string_view part;
    std::tie(part, more) = next_part();
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos || part.find('=', equals + 1) != std::string_view::npos) {
      return invalid_options();
    }
    if (!values.emplace(part.substr(0, equals), part.substr(equals + 1)).second) return invalid_options();
  }
  if (kind.empty()) {
    options.kind = TokenOptions::Kind::kNone;
    return options;
  }
  if (kind == "simple") return options;
  if (kind != "jwt") return invalid_options();
  options.kind = TokenOptions::Kind::kJwt;
  for (auto& [name, value] : values) {
    if (name == "sign-method") {
      options.sign_method = value;
    } else if (name == "pub-key") {
      options.public_key_file = value;
    } else if (name == "priv-key") {
      options.private_key_file = value;
    } else if (name == "ttl") {
      if (value.empty()) continue;
      const auto ttl = parse_go_duration(value);
      if (!ttl) return invalid_options();
      options.ttl_ns = ttl->count();
    } else {
      options.unknown.push_back(name);
    }
  }
  return options;
}

}  // namespace cairn::auth
