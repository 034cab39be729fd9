// net/tls/tls_listen.h: what a listener with TLS asks of who comes.
#pragma once

#include <memory>

namespace cairn::net {

class TlsContext;

struct TlsListen {
  std::shared_ptr<TlsContext> context;  // null: clear text
  bool takes_clear = false;             // the same address is listened on without TLS too: the first byte decides
  bool is_for_peers = false;            // members come here, not clients: for the log
  bool checks_remote = false;           // a client's certificate is only good at the addresses and hosts that it names
};

}  // namespace cairn::net
