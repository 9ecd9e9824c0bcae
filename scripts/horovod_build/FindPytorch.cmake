# Found before Horovod's module of this name (-DCMAKE_MODULE_PATH), runs it, and for a CPU build hides the CUDA toolkit
# that torch found on the machine.
include("${PROJECT_SOURCE_DIR}/cmake/Modules/FindPytorch.cmake")
if("$ENV{HPCFAST_CPU}" STREQUAL "1")
  set(Pytorch_CUDA FALSE)
  list(FILTER Pytorch_LIBRARIES EXCLUDE REGEX "cuda")
endif()
