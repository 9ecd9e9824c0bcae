// The address at which Gloo listens, for Horovod's process sets too.
//
// HOROVOD_GLOO_IFACE names the interface, but Horovod 0.28.1 does not hand it on to its process sets, of which the one
// of all ranks carries all tensors. For those Gloo looks up the host's own name, which Debian resolves to 127.0.1.1:
// other hosts cannot connect. So Gloo is told the address as the host's name, where hpcfast has set it.

#include <unistd.h>

#include <cstdlib>
#include <cstring>

int host_name(char* name, std::size_t size) asm("__real_gethostname");

int on_host_name(char* name, std::size_t size) asm("__wrap_gethostname");
int on_host_name(char* name, std::size_t size) {
  const char* address = std::getenv("HPCFAST_GLOO_ADDRESS");
  if (address == nullptr || std::strlen(address) >= size) {
    return host_name(name, size);
  }
  std::strcpy(name, address);
  return 0;
}
