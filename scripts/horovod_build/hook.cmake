# Loaded right after Horovod's project() call (-DCMAKE_PROJECT_horovod_INCLUDE).
# torch 2.14's headers need C++20 and CUDA 13's need C++17, where Horovod 0.28.1 asks for 14 and 11. The targets are
# corrected when its CMakeLists.txt has ended; its sources are not edited.
function(hpcfast_fix_targets)
  set_target_properties(gloo pytorch PROPERTIES CXX_STANDARD 20)
  # Find torch's, NCCL's, CUDA's and an MPI wheel's libraries from inside any .venv, and a cluster's MPI at its place;
  # no other path, so that a cached wheel never looks into the .venv or the folder that it was built in.
  set_target_properties(pytorch PROPERTIES
    BUILD_WITH_INSTALL_RPATH TRUE
    INSTALL_RPATH "$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib;$ORIGIN/../../nvidia/cu13/lib;$ORIGIN/../../../..;$ENV{HPCFAST_MPI_FOLDERS}")
  if(TARGET horovod_cuda_kernels)
    set_target_properties(horovod_cuda_kernels PROPERTIES CUDA_STANDARD 17)
    # the kernels a second time, for a C++ ABI that torch no longer uses
    set_target_properties(compatible_horovod_cuda_kernels PROPERTIES EXCLUDE_FROM_ALL TRUE)
  endif()
endfunction()
cmake_language(DEFER CALL hpcfast_fix_targets)
