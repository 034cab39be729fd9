// rpc/peer_pages.h: what other members ask of this one's services over plain HTTP, on its peer URL.
//
//     GET  /members               the members, by id, as JSON
//     POST /members/promote/<id>  promotes a learner, which only the leader can; then as above. 404 and 412 say why not
//     GET  /members/hashkv        the hash of the keys at a revision, as HashKV
//     POST /leases                LeaseKeepAliveRequest: renews a lease, which only the leader can. 404: there is none
//     POST /leases/internal       LeaseInternalRequest: the time left of a lease, which only the leader knows
//     GET  /downgrade/enabled     "true" or "false", as everything acknowledged before has made it
//     GET  /version               of the server, the cluster and the storage
//
// All but the first and the last are calls of the methods that clients call. A member needs no permission: it has asked
// for its client's.
//
// Threads: handle() is called by any, and answers the first and the last page at once: others ask for them before the
//          loops run. The rest is the loop's. Destroyed when that loop has ended.
// Source:  etcd 3.7.1, packages etcdhttp (peer) and leasehttp; HashKVHandler and DowngradeEnabledHandler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/mutex.h"
#include "net/http.h"
#include "rpc/context.h"
#include "rpc/own_call.h"

namespace cairn::rpc {

class PeerPages {
 public:
  explicit PeerPages(Context& context);

  [[nodiscard]] static bool serves(std::string_view path);
  // needs: serves(request.path). `respond` is called once.
  void handle(net::HttpRequest request, net::HttpRespond respond);

 private:
  struct Page;
  struct Call {
    std::string_view method;
    std::string message;
    std::optional<std::string> token =
        {};  // of another member's client, whose permission counts; nullopt: the member's
    std::function<net::HttpResponse(const OwnCalls::Outcome& outcome)> answer;
  };

  [[nodiscard]] static const Page* page_of(std::string_view path);
  void answer(const net::HttpRequest& request, const net::HttpRespond& respond);
  void begin(Call call, net::HttpRespond respond);

  void members(const net::HttpRequest& request, const net::HttpRespond& respond);
  void promote(const net::HttpRequest& request, const net::HttpRespond& respond);
  void hash_kv(const net::HttpRequest& request, const net::HttpRespond& respond);
  void renew_lease(const net::HttpRequest& request, const net::HttpRespond& respond);
  void time_to_live(const net::HttpRequest& request, const net::HttpRespond& respond);
  void downgrade_enabled(const net::HttpRequest& request, const net::HttpRespond& respond);
  void version(const net::HttpRequest& request, const net::HttpRespond& respond);

  [[nodiscard]] std::string cluster_id();
  [[nodiscard]] net::HttpResponse with_cluster_id(net::HttpResponse response);
  [[nodiscard]] net::HttpResponse list_of_members();

  Context& context_;
  OwnCalls calls_;
  Mutex mutex_;
  const std::unique_ptr<member::PublishedDomain::Reader> reader_ CAIRN_GUARDED_BY(mutex_);  // for any thread
};

}  // namespace cairn::rpc
