# Loaded right after Horovod's project() call (-DCMAKE_PROJECT_horovod_INCLUDE).
# torch 2.14's headers need C++20 and CUDA 13's need C++17, where Horovod 0.28.1 asks for 14 and 11. The targets are
# corrected when its CMakeLists.txt has ended, and wake.cc and address.cc are linked into it; its sources are not edited.
set(HPCFAST_HOOKS "${CMAKE_CURRENT_LIST_DIR}")
function(hpcfast_fix_targets)
  set_target_properties(gloo pytorch PROPERTIES CXX_STANDARD 20)
  # Find torch's, NCCL's, CUDA's and an MPI wheel's libraries from inside any .venv, and a cluster's MPI at its place;
  # no other path, so that a cached wheel never looks into the .venv or the folder that it was built in.
  set_target_properties(pytorch PROPERTIES
    BUILD_WITH_INSTALL_RPATH TRUE
    INSTALL_RPATH "$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib;$ORIGIN/../../nvidia/cu13/lib;$ORIGIN/../../../..;$ENV{HPCFAST_MPI_FOLDERS}")
  target_sources(pytorch PRIVATE "${HPCFAST_HOOKS}/wake.cc" "${HPCFAST_HOOKS}/address.cc")
  foreach(name
      epoll_wait
      gethostname
      _ZN7horovod6common11GlooContext10InitializeERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE
      _ZN7horovod5torch13HandleManager14AllocateHandleEv
      _ZN7horovod5torch13HandleManager8MarkDoneEiRKNS_6common6StatusE
      _ZN7horovod5torch13HandleManager10PollHandleEi
      _ZNK7horovod6common16ParameterManager11CycleTimeMsEv)
    target_link_options(pytorch PRIVATE "LINKER:--wrap=${name}")
  endforeach()
  if(TARGET horovod_cuda_kernels)
    set_target_properties(horovod_cuda_kernels PROPERTIES CUDA_STANDARD 17)
    # the kernels a second time, for a C++ ABI that torch no longer uses
    set_target_properties(compatible_horovod_cuda_kernels PROPERTIES EXCLUDE_FROM_ALL TRUE)
  endif()
endfunction()
cmake_language(DEFER CALL hpcfast_fix_targets)
