// One request, from its headers to its reply, as libmicrohttpd calls for it.
#include <microhttpd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "web/server_parts.h"

namespace ballast::web {

namespace {

uint64_t unix_seconds() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count());
}

// Refusals and the like are sent whatever others have left unread.
constexpr size_t kSmallReply = 4096;

// The page may load from here and nowhere else, and nobody may put it into a frame.
constexpr std::pair<const char*, const char*> kSecurityHeaders[] = {
    {"Content-Security-Policy",
     "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src "
     "'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cache-Control", "no-store"},
};

std::string header(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? std::string() : value;
}

MHD_Result add_parameter(void* query, MHD_ValueKind, const char* key, const char* value) {
  (*static_cast<std::map<std::string, std::string>*>(query))[key] = value == nullptr ? "" : value;
  return MHD_YES;
}

void add_headers(MHD_Response* response, const std::string& type) {
  for (const auto& [name, value] : kSecurityHeaders) MHD_add_response_header(response, name, value);
  MHD_add_response_header(response, "Content-Type", type.c_str());
}

}  // namespace

// All headers are there. A reply now ends the request without its body.
int Server::begin(Exchange& exchange) {
  exchange.begun = true;
  Peer& peer = peers_[exchange.connection];
  peer.phase = Phase::kBody;
  peer.since = steady_now();
  MHD_Connection* const connection = exchange.connection;
  Request& request = exchange.request;
  if (request.method == "HEAD") request.method = "GET";
  MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_parameter, &request.query);
  request.host = header(connection, "Host");
  request.origin = header(connection, "Origin");
  request.authorization = header(connection, "Authorization");
  request.content_type = header(connection, "Content-Type");
  request.last_event_id = header(connection, "Last-Event-ID");
  if (!rate_.take(steady_now())) {
    exchange.reply =
        error_reply(429, fmt::format("more than {} requests per second; ask less often",
                                     limits_.requests_per_second));
    exchange.reply->headers.emplace_back("Retry-After", "1");
    return send(exchange, *exchange.reply);
  }
  const std::string length = header(connection, "Content-Length");
  const auto bytes = length.empty() ? Result<uint64_t>(0) : parse_number("Content-Length", length);
  if (!bytes || *bytes > limits_.body_bytes) {
    exchange.reply =
        error_reply(413, fmt::format("a body of {} bytes is refused: at most {} are taken", length,
                                     limits_.body_bytes));
    return send(exchange, *exchange.reply);
  }
  return MHD_YES;
}

int Server::take_body(Exchange& exchange, const char* data, size_t size) {
  // A body in chunks says no length beforehand.
  if (exchange.request.body.size() + size > limits_.body_bytes) return MHD_NO;
  exchange.request.body.append(data, size);
  return MHD_YES;
}

// Called when all of the request is there, and again when it was waited for.
int Server::reply_to(Exchange& exchange) {
  if (!exchange.planned) {
    exchange.planned = true;
    carry_out(exchange, api_.plan(exchange.request, unix_seconds()));
  }
  if (exchange.is_stream) return send_stream(exchange);
  if (exchange.reply) return send(exchange, *exchange.reply);
  Peer& peer = peers_[exchange.connection];
  peer.phase = Phase::kWaiting;
  exchange.deadline = steady_now() + limits_.answer_time;
  waiting_.insert(&exchange);
  MHD_suspend_connection(exchange.connection);
  return MHD_YES;
}

void Server::carry_out(Exchange& exchange, Plan plan) {
  struct Carrier {
    Server& server;
    Exchange& exchange;
    void operator()(Reply& reply) const { exchange.reply = std::move(reply); }
    void operator()(FromSnapshot& wanted) const {
      exchange.look = server.wait_for_snapshot(std::move(wanted));
    }
    void operator()(FromDaemon& wanted) const {
      exchange.look = server.wait_for_daemon(std::move(wanted));
    }
    void operator()(const FromHistory& wanted) const {
      exchange.look = server.wait_for_history(wanted);
    }
    void operator()(const EventStream& wanted) const {
      exchange.reply = server.stream_or_refuse(exchange, wanted.since);
    }
  };
  std::visit(Carrier{*this, exchange}, plan);
  if (exchange.look) exchange.reply = exchange.look();
}

std::optional<Reply> Server::stream_or_refuse(Exchange& exchange, uint64_t since) {
  if (streams_.size() >= limits_.streams) {
    return error_reply(
        503, fmt::format("{} event streams are open already; close one", streams_.size()));
  }
  exchange.is_stream = true;
  exchange.since = since;
  exchange.fed = steady_now();
  exchange.pending = "retry: 2000\n\n";
  streams_.insert(&exchange);
  return std::nullopt;
}

// Null, and a new one is on its way, when the newest snapshot is too old.
View* Server::fresh_view() {
  auto latest = desk_.latest();
  if (!latest || steady_now() - latest->at > kFresh) {
    desk_.want_snapshot();
    return nullptr;
  }
  if (!view_ || view_->snapshot().number != latest->number) {
    view_ = std::make_unique<View>(std::move(latest), api_.events().version);
  }
  return view_.get();
}

std::function<std::optional<Reply>()> Server::wait_for_snapshot(FromSnapshot wanted) {
  return [this, wanted = std::move(wanted)]() -> std::optional<Reply> {
    View* const view = fresh_view();
    if (view == nullptr) return std::nullopt;
    return wanted.make(*view);
  };
}

std::function<std::optional<Reply>()> Server::wait_for_daemon(FromDaemon wanted) {
  const auto question = desk_.ask(std::move(wanted.request));
  return [this, question]() -> std::optional<Reply> {
    if (!question) return error_reply(503, "too many questions wait for ballastd; try again");
    const auto answer = desk_.answer_of(*question);
    return answer ? std::optional(answer_reply(*answer)) : std::nullopt;
  };
}

std::function<std::optional<Reply>()> Server::wait_for_history(const FromHistory& wanted) {
  const auto asked = history_ == nullptr ? nullptr : history_->ask(wanted.query);
  return [this, asked]() -> std::optional<Reply> {
    if (!asked) return error_reply(503, "too many questions wait for the history; try again");
    auto answer = history_->answer_of(*asked);
    if (!answer) return std::nullopt;
    return *answer ? json_reply(200, **answer) : error_reply(503, answer->error().message);
  };
}

int Server::send(Exchange& exchange, const Reply& wanted) {
  Peer& peer = peers_[exchange.connection];
  peer.phase = Phase::kSending;
  peer.since = steady_now();
  const size_t size = wanted.body ? wanted.body->size() : 0;
  const bool too_much = size > kSmallReply && unsent_bytes_ + size > limits_.unsent_bytes;
  const Reply reply =
      too_much ? error_reply(503, "others have not taken their answers yet; try again") : wanted;
  // Clients that ask for the same moment share its text.
  auto* body = new std::shared_ptr<const std::string>(
      reply.body ? reply.body : std::make_shared<const std::string>());
  exchange.unsent_bytes = (*body)->size();
  unsent_bytes_ += exchange.unsent_bytes;
  MHD_Response* const response = MHD_create_response_from_buffer_with_free_callback_cls(
      (*body)->size(), const_cast<char*>((*body)->data()),
      [](void* shared) { delete static_cast<std::shared_ptr<const std::string>*>(shared); }, body);
  if (response == nullptr) {
    delete body;
    return MHD_NO;
  }
  add_headers(response, reply.type);
  for (const auto& [name, value] : reply.headers) {
    MHD_add_response_header(response, name.c_str(), value.c_str());
  }
  const MHD_Result queued = MHD_queue_response(exchange.connection, reply.status, response);
  MHD_destroy_response(response);
  return queued;
}

int Server::send_stream(Exchange& exchange) {
  peers_[exchange.connection].phase = Phase::kStreaming;
  constexpr size_t kBlock = 4096;
  MHD_Response* const response = MHD_create_response_from_callback(
      MHD_SIZE_UNKNOWN, kBlock,
      [](void* stream, uint64_t, char* buffer, size_t size) -> ssize_t {
        auto& one = *static_cast<Exchange*>(stream);
        return one.server->read_stream(one, buffer, size);
      },
      &exchange, nullptr);
  if (response == nullptr) return MHD_NO;
  add_headers(response, "text/event-stream");
  const MHD_Result queued = MHD_queue_response(exchange.connection, MHD_HTTP_OK, response);
  MHD_destroy_response(response);
  return queued;
}

long Server::read_stream(Exchange& exchange, char* buffer, size_t size) {
  if (exchange.over) return MHD_CONTENT_READER_END_OF_STREAM;
  if (exchange.pending.empty()) {
    exchange.suspended = true;
    MHD_suspend_connection(exchange.connection);
    return 0;
  }
  const size_t taken = exchange.pending.copy(buffer, size);
  exchange.pending.erase(0, taken);
  return static_cast<long>(taken);
}

// What libmicrohttpd calls.
struct ServerCallbacks {
  static MHD_Result request(void* context, MHD_Connection* connection, const char* path,
                            const char* method, const char*, const char* data, size_t* size,
                            void** request_context) {
    auto& server = *static_cast<Server*>(context);
    auto* exchange = static_cast<Server::Exchange*>(*request_context);
    if (exchange == nullptr) {
      exchange = new Server::Exchange;  // ended() deletes it
      *request_context = exchange;
      exchange->server = &server;
      exchange->connection = connection;
      exchange->request.method = method;
      exchange->request.path = path;
    }
    if (!exchange->begun) return static_cast<MHD_Result>(server.begin(*exchange));
    if (*size > 0) {
      const int taken = server.take_body(*exchange, data, *size);
      *size = 0;
      return static_cast<MHD_Result>(taken);
    }
    return static_cast<MHD_Result>(server.reply_to(*exchange));
  }

  // A zero byte would end the text before its end.
  static size_t unescape(void*, MHD_Connection*, char* text) {
    const size_t length = MHD_http_unescape(text);
    std::replace(text, text + length, '\0', '?');
    return length;
  }

  static void ended(void* context, MHD_Connection* connection, void** request_context,
                    MHD_RequestTerminationCode) {
    auto& server = *static_cast<Server*>(context);
    auto* const exchange = static_cast<Server::Exchange*>(*request_context);
    if (exchange == nullptr) return;
    server.unsent_bytes_ -= exchange->unsent_bytes;
    server.waiting_.erase(exchange);
    server.streams_.erase(exchange);
    const auto peer = server.peers_.find(connection);
    if (peer != server.peers_.end()) {
      peer->second.phase = Server::Phase::kIdle;
      peer->second.since = steady_now();
    }
    delete exchange;
    *request_context = nullptr;
  }

  static void connection(void* context, MHD_Connection* connection, void**,
                         MHD_ConnectionNotificationCode what) {
    auto& server = *static_cast<Server*>(context);
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
      server.peers_.erase(connection);
      return;
    }
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    server.peers_[connection] = {info->connect_fd, Server::Phase::kHead, steady_now()};
  }
};

MHD_Daemon* start_library(Server& server, int socket, const ServerLimits& limits) {
  // One thread and epoll, driven by our own loop, so that its callbacks need no locks.
  return MHD_start_daemon(
      MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr, ServerCallbacks::request,
      &server, MHD_OPTION_LISTEN_SOCKET, socket, MHD_OPTION_CONNECTION_LIMIT, limits.connections,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits.head_bytes, MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
      size_t{4096}, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK,
      ServerCallbacks::unescape, nullptr, MHD_OPTION_NOTIFY_COMPLETED, ServerCallbacks::ended,
      &server, MHD_OPTION_NOTIFY_CONNECTION, ServerCallbacks::connection, &server, MHD_OPTION_END);
}

}  // namespace ballast::web
