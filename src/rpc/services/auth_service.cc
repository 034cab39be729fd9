#include "rpc/services/auth_service.h"

#include <openssl/crypto.h>

#include "auth/base64.h"
#include "auth/password.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/versions.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"
#include "rpc/services/kv_service.h"
#include "rpc/services/state_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

using etcdserverpb::InternalRaftRequest;

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

// A request that becomes a log entry as it came, questions too: what is applied answers it.
template <class Request, Request* (InternalRaftRequest::*kField)()>
class EntryHandler : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 protected:
  void on_request(net::Call& call, std::string_view message) override {
    InternalRaftRequest entry;
    if (const Status parsed = unmarshal(message, *(entry.*kField)()); !parsed) {
      return reject_with(call, parsed.error());
    }
    entry.DiscardUnknownFields();
    auto who = admit_entry(call, message);
    if (who) propose(call, std::move(entry), *who);
  }
  // As for a write: what is refused later is refused now, where that is known.
  std::optional<auth::Identity> admit_entry(net::Call& call, std::string_view message) {
    const auto state = context_.enter();
    return admit(call, *state, [&](const auth::Identity& who) {
      const bool looks = decides(*state, who, message) && method().allowed == Method::Allowed::kRoot;
      return looks ? state->auth->check_root(who) : Status();
    });
  }
  void propose(net::Call& call, InternalRaftRequest entry, const auth::Identity& who) {
    set_header(entry, who);
    context_.propose_other(call, entry.SerializeAsString());
  }
};

// etcd 3.4 knows no hashes in a log: it would give the user an empty password. The password goes with the hash then.
bool etcd_34_may_read_the_log(const member::Published& state) {
  const auto version = cluster::parse_version(state.members->version);
  return version && *version != cluster::kPlaceholderVersion && *version < cluster::MinorVersion{3, 5};
}

// One with a password, of which the log holds the hash alone from 3.5 on. A worker makes it.
template <class Request, Request* (InternalRaftRequest::*kField)()>
class PasswordHandler final : public EntryHandler<Request, kField> {
 public:
  using Base = EntryHandler<Request, kField>;
  using Base::Base;

 private:
  static bool has_password(const etcdserverpb::AuthUserAddRequest& request) { return !request.options().no_password(); }
  static bool has_password(const etcdserverpb::AuthUserChangePasswordRequest& request) {
    return !request.password().empty();
  }

  void on_request(net::Call& call, std::string_view message) override {
    auto entry = std::make_shared<InternalRaftRequest>();
    Request& request = *(*entry.*kField)();
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    entry->DiscardUnknownFields();
    if (has_password(request)) {  // as etcd, which asks who calls when it has the hash
      if (const Status length = auth::check_password_length(request.password()); !length) {
        return finish_with(call, length.error());
      }
    }
    auto who = this->admit_entry(call, message);
    if (!who) return;
    if (!has_password(request)) return this->propose(call, std::move(*entry), *who);
    const bool keeps_password = etcd_34_may_read_the_log(*this->context_.enter());
    this->context_.offload(
        call, Workers::Lane::kPasswords,
        [entry, keeps_password,
         cost = this->context_.limits().bcrypt_cost](const Context::Slice&) -> std::optional<Status> {
          Request& in = *(*entry.*kField)();
          auto hashed = auth::hash_password(in.password(), cost);
          if (!keeps_password) wipe(*in.mutable_password());
          if (!hashed) return std::unexpected(std::move(hashed).error());
          in.set_hashedpassword(auth::encode_base64(*hashed));
          return Status();
        },
        [this, entry, who = *std::move(who)](net::Call& later, const Status& hashed) {
          if (!hashed) return finish_with(later, hashed.error());
          this->propose(later, std::move(*entry), who);
        });
  }
};

// Not an entry, as etcd makes it: etcd 3.4 panics if its log has one.
class StatusHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::AuthStatusRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit(call, *context_.enter(), [](const auth::Identity&) { return Status(); })) return;
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      error != nullptr ? finish_with(later, *error) : answer(later);
    });
  }
  void answer(net::Call& call) {
    const auto state = context_.enter();
    etcdserverpb::AuthStatusResponse response;
    response.set_enabled(state->auth->enabled());
    response.set_authrevision(state->auth->revision());
    call.reply(with_header(response_header(*state, context_.node(), state->kv.revision), response));
  }
};

// The password is looked at here, and the log tells every member of the token. When users or roles have changed in
// between, the password may have as well: then all is done again, as in etcd.
class AuthenticateHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;
  ~AuthenticateHandler() override { wipe(password_); }

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::AuthenticateRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    user_ = request.name();
    password_ = request.password();
    wipe(*request.mutable_password());
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      error != nullptr ? finish_with(later, *error) : check(later);
    });
  }

  void check(net::Call& call) {
    const auto state = context_.enter();
    if (!state->auth->enabled()) return finish_with(call, errors::auth_not_enabled());
    const auth::User* const user = state->auth->find(user_);
    if (user == nullptr) return refuse(call, errors::auth_failed());
    if (user->no_password) return refuse(call, errors::no_password_user());
    context_.offload(
        call, Workers::Lane::kPasswords,
        [password = password_, hashed = user->password](const Context::Slice&) mutable {
          const bool is_right = auth::is_password(password, hashed);
          wipe(password);
          return std::optional(is_right);
        },
        [this, revision = state->auth->revision()](net::Call& later, bool is_right) {
          if (is_right) return propose(later, revision);
          log::info("invalid password", {{"user-name", user_}});
          refuse(later, errors::auth_failed());
        });
  }
  void refuse(net::Call& call, const Error& error) {
    // The text that etcd has before it makes an answer of it.
    std::string_view why = error.message;
    constexpr std::string_view kOfAnswers = "etcdserver: ";
    if (why.starts_with(kOfAnswers)) why.remove_prefix(kOfAnswers.size());
    log::warn("invalid authentication was requested",
              {{"user", user_}, {"error", fmt::format("{}{}", why.starts_with("auth: ") ? "" : "auth: ", why)}});
    finish_with(call, error);
  }

  void propose(net::Call& call, uint64_t revision) {
    auto prefix = context_.tokens().new_prefix();
    if (!prefix) return finish_with(call, prefix.error());
    InternalRaftRequest entry;
    entry.mutable_authenticate()->set_name(user_);
    entry.mutable_authenticate()->set_simple_token(*std::move(prefix));
    set_header(entry, {});
    const auto finish = [this, revision](net::Call& later, const CoreAnswer& answer) {
      if (answer.code != Code::kOk) return later.finish(answer.code, answer.text);
      if (context_.enter()->auth->revision() != revision) return check(later);
      context_.tokens().signs() ? sign(later, revision, std::string(answer.text)) : later.reply(answer.text);
    };
    context_.propose_other(call, entry.SerializeAsString(), {.then = finish});
  }

  // `response`: without the token.
  void sign(net::Call& call, uint64_t revision, std::string response) {
    context_.offload(
        call, Workers::Lane::kPasswords,
        [&tokens = context_.tokens(), user = user_, revision](const Context::Slice&) {
          return std::optional(tokens.sign(user, revision));
        },
        [response = std::move(response)](net::Call& later, const Result<std::string>& token) {
          if (!token) return finish_with(later, token.error());
          std::string whole = response;
          wire::append_bytes_field(whole, 2, *token);
          later.reply(whole);
        },
        Context::Turn::kNext);
  }

  std::string user_;
  std::string password_;
};

}  // namespace

// NOLINTBEGIN(bugprone-macro-parentheses): names of templates and types have none
#define CAIRN_AUTH_MAKER(maker, handler, request, field)                                                        \
  std::unique_ptr<net::CallHandler> maker(Context& context, const Method& method, const Caller& caller) {       \
    return make_handler<handler<etcdserverpb::request, &InternalRaftRequest::mutable_##field>>(context, method, \
                                                                                               caller);         \
  }
// NOLINTEND(bugprone-macro-parentheses)
CAIRN_AUTH_MAKER(make_auth_enable, EntryHandler, AuthEnableRequest, auth_enable)
CAIRN_AUTH_MAKER(make_auth_disable, EntryHandler, AuthDisableRequest, auth_disable)
CAIRN_AUTH_MAKER(make_user_add, PasswordHandler, AuthUserAddRequest, auth_user_add)
CAIRN_AUTH_MAKER(make_user_get, EntryHandler, AuthUserGetRequest, auth_user_get)
CAIRN_AUTH_MAKER(make_user_list, EntryHandler, AuthUserListRequest, auth_user_list)
CAIRN_AUTH_MAKER(make_user_delete, EntryHandler, AuthUserDeleteRequest, auth_user_delete)
CAIRN_AUTH_MAKER(make_user_change_password, PasswordHandler, AuthUserChangePasswordRequest, auth_user_change_password)
CAIRN_AUTH_MAKER(make_user_grant_role, EntryHandler, AuthUserGrantRoleRequest, auth_user_grant_role)
CAIRN_AUTH_MAKER(make_user_revoke_role, EntryHandler, AuthUserRevokeRoleRequest, auth_user_revoke_role)
CAIRN_AUTH_MAKER(make_role_add, EntryHandler, AuthRoleAddRequest, auth_role_add)
CAIRN_AUTH_MAKER(make_role_get, EntryHandler, AuthRoleGetRequest, auth_role_get)
CAIRN_AUTH_MAKER(make_role_list, EntryHandler, AuthRoleListRequest, auth_role_list)
CAIRN_AUTH_MAKER(make_role_delete, EntryHandler, AuthRoleDeleteRequest, auth_role_delete)
CAIRN_AUTH_MAKER(make_role_grant_permission, EntryHandler, AuthRoleGrantPermissionRequest, auth_role_grant_permission)
CAIRN_AUTH_MAKER(make_role_revoke_permission, EntryHandler, AuthRoleRevokePermissionRequest,
                 auth_role_revoke_permission)
#undef CAIRN_AUTH_MAKER

std::unique_ptr<net::CallHandler> make_auth_status(Context& context, const Method& method, const Caller& caller) {
  return make_handler<StatusHandler>(context, method, caller);
}

std::unique_ptr<net::CallHandler> make_authenticate(Context& context, const Method& method, const Caller& caller) {
  return make_handler<AuthenticateHandler>(context, method, caller);
}

}  // namespace cairn::rpc
