# SPDX-License-Identifier: MIT
# The target torch_stable: headers and libraries of the torch of the building interpreter, for the stable ABI.
# Not find_package(Torch): its CUDA probing fails where torch is a CPU build and nvcc is present. torch is found
# without importing it, which would take seconds.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
  OUTPUT_VARIABLE DTNN_TORCH_ROOT
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(NOT DTNN_TORCH_ROOT)
  message(FATAL_ERROR "torch is not installed for ${Python_EXECUTABLE}: pip install torch")
endif()
message(STATUS "dtnn_fast: torch at ${DTNN_TORCH_ROOT}")
find_library(DTNN_TORCH_LIB torch PATHS ${DTNN_TORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE REQUIRED)
find_library(DTNN_TORCH_CPU_LIB torch_cpu PATHS ${DTNN_TORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE REQUIRED)

add_library(torch_stable INTERFACE)
target_include_directories(torch_stable SYSTEM INTERFACE ${DTNN_TORCH_ROOT}/include)
# 2.10 is the oldest torch that the binary must run on.
target_compile_definitions(torch_stable INTERFACE TORCH_TARGET_VERSION=0x020a000000000000)
# libtorch must stay among the needed libraries although no symbol of it is used at link time: the current CUDA
# stream is looked up in it at run time (csrc/cuda_stream.h).
target_link_libraries(torch_stable INTERFACE -Wl,--no-as-needed ${DTNN_TORCH_LIB} ${DTNN_TORCH_CPU_LIB}
                                             -Wl,--as-needed)
