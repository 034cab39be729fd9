// rpc/peer_pages.h: what other members ask of this one's services over plain HTTP, on its peer URL: who the members
// are, and to promote a learner, which only the leader can.
//
//     GET  /members               the members, by id, as JSON
//     POST /members/promote/<id>  promotes; the same when it is done. 404 and 412 say why not, in etcd's words
//
// Threads: handle() is called by any; the rest is the loop's that it was made for. Destroyed when that loop has ended.
// Source:  etcd 3.7.1, package etcdhttp, peer.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"
#include "rpc/context.h"

namespace cairn::rpc {

class PeerPages {
 public:
  explicit PeerPages(Context& context);
  ~PeerPages();

  [[nodiscard]] static bool serves(std::string_view path);
  // needs: serves(request.path). `respond` is called once, on the loop.
  void handle(net::HttpRequest request, net::HttpRespond respond);

 private:
  class Promotion;

  void answer(const net::HttpRequest& request, net::HttpRespond respond);
  [[nodiscard]] net::HttpResponse members();
  void promote(const net::HttpRequest& request, net::HttpRespond respond);

  Context& context_;
  std::list<std::unique_ptr<Promotion>> promotions_;  // under way
};

}  // namespace cairn::rpc
