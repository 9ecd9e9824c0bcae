// Horovod's threads on CPUs that they share with the ranks: idle where there is nothing to do, prompt where there is.
//
// At every cycle Horovod asks all ranks which tensors are ready, also while none of them has any; and a tensor waits
// for the next cycle, also while its rank waits for the tensor. With this file in Horovod's library (see hook.cmake)
// its thread sleeps until a tensor is enqueued, then looks every cycle as before, and at once when a rank waits. It and
// Gloo's thread have little to do, and all ranks wait for them, so they interrupt a rank that computes on their core.
//
// The linker puts a function called `__wrap_NAME` here in the place of Horovod's `NAME`, which is `__real_NAME` then;
// Horovod's sources are not edited. `nm --demangle` reads the names; `self` is the object that has the function.

#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#define INITIALIZE_GLOO \
  "_ZN7horovod6common11GlooContext10InitializeERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
#define CYCLE_TIME "_ZNK7horovod6common16ParameterManager11CycleTimeMsEv"
#define ALLOCATE_HANDLE "_ZN7horovod5torch13HandleManager14AllocateHandleEv"
#define MARK_DONE "_ZN7horovod5torch13HandleManager8MarkDoneEiRKNS_6common6StatusE"
#define POLL_HANDLE "_ZN7horovod5torch13HandleManager10PollHandleEi"

extern "C" bool horovod_mpi_enabled();
void initialize_gloo(void* self, const void* interface) asm("__real_" INITIALIZE_GLOO);
double cycle_time(const void* self) asm("__real_" CYCLE_TIME);
int allocate_handle(void* self) asm("__real_" ALLOCATE_HANDLE);
void mark_done(void* self, int handle, const void* status) asm("__real_" MARK_DONE);
bool poll_handle(void* self, int handle) asm("__real_" POLL_HANDLE);
int wait_for_events(int epoll, epoll_event* events, int most, int timeout) asm("__real_epoll_wait");

namespace {

using Milliseconds = std::chrono::duration<double, std::milli>;

// How often Horovod looks nevertheless: for a shutdown, for ranks that died, and for tensors that others wait for.
constexpr Milliseconds IDLE(250.0);

// How often it looks while somebody waits, unless every cycle is more often: not all the time, for on a GPU tensors take
// their time to arrive although nothing is left to look for.
constexpr Milliseconds PROMPT(1.0);

// How long a thread that interrupts others asks to run at a time, nanoseconds: the shortest that Linux grants.
constexpr std::uint64_t SLICE = 100000;

std::mutex mutex;
std::condition_variable changed;
long unfinished = 0;   // collectives that were begun and have not ended
bool awaited = false;  // somebody waits for one of them,
bool asked = false;    // since the last look

// What the kernel calls struct sched_attr; not every libc knows it.
struct Scheduling {
  std::uint32_t size, policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};

// Have this thread, and those that it starts, get a core soon after they ask for it (Linux 6.12 and later).
void ask_for_short_slices() {
  Scheduling own{};
  if (syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 && own.policy == SCHED_OTHER) {
    own.runtime = SLICE;
    syscall(SYS_sched_setattr, 0, &own, 0);  // where that is forbidden, all goes on as it would have gone
  }
}

}  // namespace

// Horovod's thread is about to start Gloo's, in a job without MPI.
void on_initialize_gloo(void* self, const void* interface) asm("__wrap_" INITIALIZE_GLOO);
void on_initialize_gloo(void* self, const void* interface) {
  ask_for_short_slices();
  initialize_gloo(self, interface);
}

// Gloo's thread is about to wait for data. While another thread holds the connection that has some, it asks again and
// again without a pause, and so keeps the thread that it waits for from the core that they share.
int on_wait_for_events(int epoll, epoll_event* events, int most, int timeout) asm("__wrap_epoll_wait");
int on_wait_for_events(int epoll, epoll_event* events, int most, int timeout) {
  sched_yield();
  return wait_for_events(epoll, events, most, timeout);
}

// A collective begins.
int on_allocate_handle(void* self) asm("__wrap_" ALLOCATE_HANDLE);
int on_allocate_handle(void* self) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    ++unfinished;
  }
  changed.notify_one();
  return allocate_handle(self);
}

// A collective has ended, or failed.
void on_mark_done(void* self, int handle, const void* status) asm("__wrap_" MARK_DONE);
void on_mark_done(void* self, int handle, const void* status) {
  mark_done(self, handle, status);
  std::lock_guard<std::mutex> lock(mutex);
  unfinished = std::max(0L, unfinished - 1);
  awaited = awaited && unfinished > 0;
}

// Somebody asks whether a collective has ended, or waits for it, which is to ask again and again.
bool on_poll_handle(void* self, int handle) asm("__wrap_" POLL_HANDLE);
bool on_poll_handle(void* self, int handle) {
  bool done = poll_handle(self, handle);
  if (!done) {
    std::lock_guard<std::mutex> lock(mutex);
    if (unfinished > 0 && !awaited) {
      awaited = asked = true;
      changed.notify_one();
    }
  }
  return done;
}

// Horovod's thread is about to look, and asks how long after its last look. It waits here, and then not any more.
// It is never idle with MPI: a rank that looks keeps its core busy there until all others look.
double on_cycle_time(const void* self) asm("__wrap_" CYCLE_TIME);
double on_cycle_time(const void* self) {
  Milliseconds cycle(cycle_time(self));
  std::unique_lock<std::mutex> lock(mutex);
  if (horovod_mpi_enabled() || changed.wait_for(lock, IDLE, [] { return unfinished > 0; })) {
    changed.wait_for(lock, awaited ? std::min(cycle, PROMPT) : cycle, [] { return asked; });
  }
  asked = false;
  return 0.0;
}
