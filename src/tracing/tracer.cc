#include "tracing/tracer.h"

#include <algorithm>

#include "base/random.h"
#include "tracing/propagation.h"

namespace cairn::tracing {
namespace {

// Names of codes as OpenTelemetry has them.
std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk: return "OK";
    case Code::kCancelled: return "CANCELLED";
    case Code::kUnknown: return "UNKNOWN";
    case Code::kInvalidArgument: return "INVALID_ARGUMENT";
    case Code::kDeadlineExceeded: return "DEADLINE_EXCEEDED";
    case Code::kNotFound: return "NOT_FOUND";
    case Code::kAlreadyExists: return "ALREADY_EXISTS";
    case Code::kPermissionDenied: return "PERMISSION_DENIED";
    case Code::kResourceExhausted: return "RESOURCE_EXHAUSTED";
    case Code::kFailedPrecondition: return "FAILED_PRECONDITION";
    case Code::kAborted: return "ABORTED";
    case Code::kOutOfRange: return "OUT_OF_RANGE";
    case Code::kUnimplemented: return "UNIMPLEMENTED";
    case Code::kInternal: return "INTERNAL";
    case Code::kUnavailable: return "UNAVAILABLE";
    case Code::kDataLoss: return "DATA_LOSS";
    case Code::kUnauthenticated: return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

// Codes for which the server is to blame, as OpenTelemetry sees it.
bool is_failure(Code code) {
  switch (code) {
    case Code::kUnknown:
    case Code::kDeadlineExceeded:
    case Code::kUnimplemented:
    case Code::kInternal:
    case Code::kUnavailable:
    case Code::kDataLoss: return true;
    default: return false;
  }
}

void add_address(std::string_view address, Attributes& to) {
  if (address.empty()) return;
  const size_t colon = address.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? "" : address.substr(colon + 1);
  if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos) {  // a unix socket
    to.push_back({"server.address", std::string(address)});
    return;
  }
  std::string_view host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  int64_t number = 0;
  for (const char digit : port) number = number * 10 + (digit - '0');
  to.push_back({"server.address", std::string(host)});
  to.push_back({"server.port", number});
}

}  // namespace

bool is_sampled(TraceId trace, uint32_t samples_per_million) {
  if (samples_per_million >= kAlways) return true;
  const double fraction = static_cast<double>(samples_per_million) / kAlways;
  const auto bound = static_cast<uint64_t>(fraction * static_cast<double>(uint64_t{1} << 63));
  return trace.low >> 1 < bound;
}

uint64_t IdSource::next() {
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15;  // as in base/random.h, of which each number is the first
  while (true) {
    const uint64_t id = Random(state_.fetch_add(kStep, std::memory_order_relaxed)).next();
    if (id != 0) return id;
  }
}

Tracer::Tracer(const Options& options, const env::Clock& clock, SpanSink& sink)
    : options_(options), clock_(clock), sink_(sink), ids_(options.seed) {}

std::optional<Tracer::Begun> Tracer::sample(const Asked& asked) {
  if (auto caller = parse_traceparent(asked.traceparent)) {
    if (!caller->sampled()) return std::nullopt;
    const uint64_t parent = std::exchange(caller->span, ids_.next());
    caller->state = parse_tracestate(asked.tracestate);
    return Begun{*std::move(caller), parent};
  }
  if (options_.samples_per_million == 0) return std::nullopt;
  const TraceId trace{ids_.next(), ids_.next()};
  if (!is_sampled(trace, options_.samples_per_million)) return std::nullopt;
  return Begun{{.trace = trace, .span = ids_.next(), .flags = SpanContext::kSampled, .state = {}}, 0};
}

std::shared_ptr<CallTrace> Tracer::begin_sampled(std::string_view path, Begun begun, const std::string& local_address) {
  auto call = std::make_shared<CallTrace>(*this, begun.context);
  const std::string_view name = path.starts_with('/') ? path.substr(1) : path;
  Span& own = call->own_.emplace();
  own.context = std::move(begun.context);
  own.parent = begun.parent;
  own.is_parent_remote = true;  // as OpenTelemetry's library for gRPC has it, also where there is no parent
  own.kind = Span::Kind::kServer;
  own.name = name;
  own.began_ns = call->began_wall_ns_;
  own.attributes = {{"rpc.method", std::string(name)}, {"rpc.system.name", "grpc"}};
  add_address(local_address, own.attributes);
  return call;
}

CallTrace::CallTrace(Tracer& tracer, SpanContext context)
    : tracer_(tracer),
      context_(std::move(context)),
      began_wall_ns_(tracer.clock_.wall_ns()),
      began_ns_(tracer.clock_.monotonic_ns()) {}

// A call that was begun and never carried out leaves no span.
CallTrace::~CallTrace() = default;

// The wall clock may jump; a step must not end before it began.
int64_t CallTrace::now_ns() const { return began_wall_ns_ + (tracer_.clock_.monotonic_ns() - began_ns_); }

void CallTrace::open(std::string_view name, Attributes attributes, uint64_t key) {
  if (is_over_) return;
  if (open_.size() >= kOpenMax) return tracer_.sink_.note_dropped(1);
  Step& step = open_.emplace_back(Step{key, {}});
  step.span.context = context_;
  step.span.context.span = tracer_.ids_.next();
  step.span.parent = context_.span;
  step.span.name = name;
  step.span.began_ns = now_ns();
  step.span.attributes = std::move(attributes);
  // compat: etcd sends them whole.
  for (Attribute& each : step.span.attributes) {
    auto* const text = std::get_if<std::string>(&each.value);
    if (text != nullptr && text->size() > kTextBytesMax) text->resize(kTextBytesMax);
  }
}

void CallTrace::close(uint64_t key) {
  const auto found = std::find_if(open_.begin(), open_.end(), [key](const Step& step) { return step.key == key; });
  if (found == open_.end()) return;
  finish(found->span);
  open_.erase(found);
}

void CallTrace::end(Code code, std::string_view message) {
  if (std::exchange(is_over_, true)) return;
  for (Step& step : open_) finish(step.span);
  open_.clear();
  if (!own_) return;
  own_->attributes.push_back({"rpc.response.status_code", std::string(code_name(code))});
  if (is_failure(code)) {
    own_->failed = true;
    own_->error = message.substr(0, kTextBytesMax);
  }
  finish(*own_);
  own_.reset();
}

void CallTrace::finish(Span& span) {
  span.ended_ns = now_ns();
  tracer_.sink_.take(std::move(span));
}

std::shared_ptr<CallTrace> CallTrace::within() const { return std::make_shared<CallTrace>(tracer_, context_); }

}  // namespace cairn::tracing
