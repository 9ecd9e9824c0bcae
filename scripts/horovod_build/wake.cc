// Horovod's thread looks when there is something to look for.
//
// At every cycle it asks all ranks which tensors are ready, also while none of them has any, and a tensor waits for the
// next cycle, also while its rank waits for the tensor. With this file in Horovod's library (see hook.cmake) it
// sleeps until a tensor is enqueued, then looks every cycle as before, and at once when a rank waits for a result.
// The linker puts the functions `__wrap_NAME` in the place of Horovod's `NAME`; Horovod's sources are not edited.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace {

// How often it looks nevertheless, milliseconds: for a shutdown, for ranks that died, and for other ranks' stalls.
constexpr double IDLE = 250.0;

std::mutex mutex;
std::condition_variable changed;
long unfinished = 0;   // collectives that were begun and have not ended
bool awaited = false;  // somebody waits for one of them

}  // namespace

// The names are those of the compiler's C++ ABI (`nm --demangle` reads them). `self` is the object that has the function.
extern "C" {

int __real__ZN7horovod5torch13HandleManager14AllocateHandleEv(void* self);
void __real__ZN7horovod5torch13HandleManager8MarkDoneEiRKNS_6common6StatusE(void* self, int handle, const void* status);
bool __real__ZN7horovod5torch13HandleManager10PollHandleEi(void* self, int handle);
double __real__ZNK7horovod6common16ParameterManager11CycleTimeMsEv(const void* self);
bool horovod_mpi_enabled();

// A collective begins.
int __wrap__ZN7horovod5torch13HandleManager14AllocateHandleEv(void* self) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    ++unfinished;
  }
  changed.notify_one();
  return __real__ZN7horovod5torch13HandleManager14AllocateHandleEv(self);
}

// A collective has ended, or failed.
void __wrap__ZN7horovod5torch13HandleManager8MarkDoneEiRKNS_6common6StatusE(void* self, int handle, const void* status) {
  __real__ZN7horovod5torch13HandleManager8MarkDoneEiRKNS_6common6StatusE(self, handle, status);
  std::lock_guard<std::mutex> lock(mutex);
  unfinished = std::max(0L, unfinished - 1);
  awaited = awaited && unfinished > 0;
}

// Somebody asks whether a collective has ended, or waits for it, which is to ask again and again.
bool __wrap__ZN7horovod5torch13HandleManager10PollHandleEi(void* self, int handle) {
  bool done = __real__ZN7horovod5torch13HandleManager10PollHandleEi(self, handle);
  if (!done) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      awaited = unfinished > 0;
    }
    changed.notify_one();
  }
  return done;
}

// Horovod's thread is about to look, and asks how long after its last look. It waits here, and then not any more.
// Not under MPI: there a rank that looks keeps a core busy until all others look, so they had better do it together.
double __wrap__ZNK7horovod6common16ParameterManager11CycleTimeMsEv(const void* self) {
  using milliseconds = std::chrono::duration<double, std::milli>;
  double cycle = __real__ZNK7horovod6common16ParameterManager11CycleTimeMsEv(self);
  if (horovod_mpi_enabled()) {
    return cycle;
  }
  std::unique_lock<std::mutex> lock(mutex);
  if (changed.wait_for(lock, milliseconds(IDLE), [] { return unfinished > 0; })) {
    changed.wait_for(lock, milliseconds(cycle), [] { return awaited; });
  }
  return 0.0;
}
}
