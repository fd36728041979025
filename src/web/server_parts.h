// What server.cc (the loop) and server_requests.cc (one request) share.
#pragma once

#include "web/server.h"

namespace ballast::web {

struct Server::Peer {
  int socket = -1;
  Phase phase = Phase::kHead;
  Nanoseconds since = 0;  // of the phase
};

struct Server::Exchange {
  Server* server = nullptr;
  MHD_Connection* connection = nullptr;
  Request request;
  bool begun = false;    // all headers are there
  bool planned = false;  // all of the body too
  // A request that waits: looks whether its reply is there.
  std::function<std::optional<Reply>()> look;
  Nanoseconds deadline = 0;
  std::optional<Reply> reply;
  size_t unsent_bytes = 0;  // of the reply; counted until the request is over
  // A stream.
  bool is_stream = false;
  bool suspended = false;
  bool over = false;
  uint64_t since = 0;
  std::string pending;  // events that the client has not taken
  Nanoseconds fed = 0;
};

// Null with errno when it cannot. Owns the socket from then on.
MHD_Daemon* start_library(Server& server, int socket, const ServerLimits& limits);

}  // namespace ballast::web
