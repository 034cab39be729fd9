#include "sim/fiber.h"

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <utility>
#include <vector>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace cairn::sim {
namespace {

constexpr size_t kStackBytes = size_t{1} << 20;  // taken from the kernel page by page, as it is used

// Stacks are used again: a life has many thousand fibers.
std::vector<char*>& spare_stacks() {
  static std::vector<char*> stacks;
  return stacks;
}

char* take_stack() {
  std::vector<char*>& spares = spare_stacks();
  if (!spares.empty()) {
    char* const stack = spares.back();
    spares.pop_back();
    return stack;
  }
  void* const stack =
      ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  CAIRN_ASSERT(stack != MAP_FAILED);
  return static_cast<char*>(stack);
}

Fiber* running = nullptr;

}  // namespace

#if defined(__x86_64__)
// Saves what a call keeps on the stack, leaves the stack's end in *from and goes on where the other stack stopped.
// swapcontext() does the same and makes a system call, for the signal mask.
extern "C" void cairn_sim_switch_stack(void** from, void* to);
asm(R"(
  .text
  .type cairn_sim_switch_stack, @function
cairn_sim_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size cairn_sim_switch_stack, .-cairn_sim_switch_stack
)");

namespace {

struct Context {
  void* stack_end = nullptr;

  // Has `entry` begin on the stack.
  void make(char* stack, size_t bytes, void (*entry)()) {
    constexpr size_t kSavedRegisters = 6;
    void** end = reinterpret_cast<void**>(stack + bytes);
    *--end = nullptr;  // nobody to return to
    *--end = reinterpret_cast<void*>(entry);
    for (size_t i = 0; i < kSavedRegisters; ++i) *--end = nullptr;
    stack_end = end;
  }
  static void swap(Context& from, Context& to) { cairn_sim_switch_stack(&from.stack_end, to.stack_end); }
};

}  // namespace
#else
namespace {

struct Context {
  ucontext_t context;

  void make(char* stack, size_t bytes, void (*entry)()) {
    CAIRN_ASSERT(::getcontext(&context) == 0);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    ::makecontext(&context, entry, 0);
  }
  static void swap(Context& from, Context& to) { CAIRN_ASSERT(::swapcontext(&from.context, &to.context) == 0); }
};

}  // namespace
#endif

struct Fiber::State {
  Body body;
  char* stack = nullptr;  // null: not begun, or done
  bool begun = false;
  bool done = false;
  Fiber* resumed_by = nullptr;
  Context own;
  Context back;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* back_stack = nullptr;
  size_t back_stack_bytes = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan_own = nullptr;
  void* tsan_back = nullptr;
#endif

  static void enter();
  void switch_in();
  void switch_out(bool for_good);
};

void Fiber::State::switch_in() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack, kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  if (tsan_own == nullptr) tsan_own = __tsan_create_fiber(0);
  tsan_back = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_own, 0);
#endif
  Context::swap(back, own);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fiber::State::switch_out([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, back_stack, back_stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_back, 0);
#endif
  Context::swap(own, back);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, &back_stack, &back_stack_bytes);
#endif
}

// The first function on a fiber's stack; it never returns.
void Fiber::State::enter() {
  State& state = *running->state_;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &state.back_stack, &state.back_stack_bytes);
#endif
  state.body();
  state.body = nullptr;
  state.done = true;
  state.switch_out(/*for_good=*/true);
  CAIRN_ASSERT(false);  // nobody resumes what is done
}

Fiber::Fiber(Body body) : state_(std::make_unique<State>()) { state_->body = std::move(body); }

Fiber::~Fiber() { CAIRN_ASSERT(state_->done || !state_->begun); }

void Fiber::resume() {
  State& state = *state_;
  CAIRN_ASSERT(!state.done && running != this);
  if (!std::exchange(state.begun, true)) {
    state.stack = take_stack();
    state.own.make(state.stack, kStackBytes, &State::enter);
  }
  state.resumed_by = std::exchange(running, this);
  state.switch_in();
  running = state.resumed_by;
  if (!state.done) return;
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(std::exchange(state.tsan_own, nullptr));
#endif
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(state.stack, kStackBytes);
#endif
  spare_stacks().push_back(std::exchange(state.stack, nullptr));
}

bool Fiber::done() const { return state_->done; }

Fiber* Fiber::current() { return running; }

void Fiber::wait() {
  CAIRN_ASSERT(running != nullptr);
  running->state_->switch_out(/*for_good=*/false);
}

}  // namespace cairn::sim
