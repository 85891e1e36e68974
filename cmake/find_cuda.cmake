# Finds what the GPU backend is built with: nvcc, the CUDA runtime, cuDNN and cuBLASLt; NCCL where it
# is. Sets RACKMARK_HAS_CUDA and, when it is true, makes
#   rackmark::cuda_libraries   headers and libraries for code that calls CUDA, cuDNN, cuBLASLt
#   rackmark::nccl             its header, only where NCCL was found: the library is loaded when it is needed
# and turns the language CUDA on.
#
# Where it looks: RACKMARK_CUDA_ROOT (one folder or several), the folder of the nvcc on PATH,
# /usr/local/cuda, and Python's nvidia packages (nvidia/cudnn, nvidia/cublas, nvidia/cuda_runtime,
# nvidia/cu13), which have no unversioned lib*.so.
# The libraries are not copied and not searched for at run time: where they lie in a Python package,
# LD_LIBRARY_PATH has to name their folders.
set(RACKMARK_CUDA AUTO CACHE STRING "The GPU backend of the worker: AUTO (where CUDA is found), ON, OFF")
set_property(CACHE RACKMARK_CUDA PROPERTY STRINGS AUTO ON OFF)
set(RACKMARK_CUDA_ROOT "" CACHE STRING "Folders with bin/, include/, lib/ of CUDA and cuDNN, before all others")
# Hopper's code, and its PTX for what is newer. Each further one adds its share to nvcc's time.
set(RACKMARK_CUDA_ARCHITECTURES 90 CACHE STRING "GPUs that the own kernels are compiled for, the oldest first")

set(RACKMARK_HAS_CUDA OFF)
set(wanted ${RACKMARK_CUDA})
if(NOT wanted MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "RACKMARK_CUDA is '${wanted}'; allowed: AUTO, ON, OFF")
endif()
if(wanted STREQUAL "AUTO" AND RACKMARK_SANITIZE)
  set(wanted OFF)  # the sanitizers see nothing of what nvcc compiles
endif()

# Folders that may hold include/ and lib/, in order.
function(rackmark_cuda_folders output nvcc)
  set(folders ${RACKMARK_CUDA_ROOT})
  if(nvcc)
    file(REAL_PATH ${nvcc} real)
    cmake_path(GET real PARENT_PATH bin)
    cmake_path(GET bin PARENT_PATH toolkit)
    list(APPEND folders ${toolkit})
  endif()
  list(APPEND folders /usr/local/cuda /usr)
  execute_process(
    COMMAND python3 -c "import importlib.util as u; s = u.find_spec('nvidia'); print(';'.join(s.submodule_search_locations) if s else '', end='')"
    OUTPUT_VARIABLE packages ERROR_QUIET)
  foreach(package IN LISTS packages)
    file(GLOB below ${package}/cudnn ${package}/cublas ${package}/cuda_runtime ${package}/nccl ${package}/cu1[0-9])
    list(APPEND folders ${below})
  endforeach()
  set(${output} ${folders} PARENT_SCOPE)
endfunction()

if(NOT wanted STREQUAL "OFF")
  find_program(RACKMARK_NVCC nvcc HINTS ${RACKMARK_CUDA_ROOT} /usr/local/cuda PATH_SUFFIXES bin)
  rackmark_cuda_folders(folders "${RACKMARK_NVCC}")
  set(libraries lib64 lib lib/x86_64-linux-gnu targets/x86_64-linux/lib)
  set(headers include targets/x86_64-linux/include)
  find_path(RACKMARK_CUDA_INCLUDE cuda_runtime_api.h HINTS ${folders} PATH_SUFFIXES ${headers} NO_CACHE)
  find_path(RACKMARK_CUDNN_INCLUDE cudnn_graph.h HINTS ${folders} PATH_SUFFIXES ${headers} NO_CACHE)
  find_path(RACKMARK_CUBLAS_INCLUDE cublasLt.h HINTS ${folders} PATH_SUFFIXES ${headers} NO_CACHE)
  # The runtime is linked into the plug-in: one library less that a host must have.
  find_library(RACKMARK_CUDART NAMES libcudart_static.a libcudart.so.13 libcudart.so.12
               HINTS ${folders} PATH_SUFFIXES ${libraries} NO_CACHE)
  find_library(RACKMARK_CUDNN NAMES libcudnn.so libcudnn.so.9 HINTS ${folders} PATH_SUFFIXES ${libraries} NO_CACHE)
  find_library(RACKMARK_CUBLASLT NAMES libcublasLt.so libcublasLt.so.13 libcublasLt.so.12
               HINTS ${folders} PATH_SUFFIXES ${libraries} NO_CACHE)
  set(missing)
  foreach(part RACKMARK_NVCC RACKMARK_CUDA_INCLUDE RACKMARK_CUDNN_INCLUDE RACKMARK_CUBLAS_INCLUDE
               RACKMARK_CUDART RACKMARK_CUDNN RACKMARK_CUBLASLT)
    if(NOT ${part})
      list(APPEND missing ${part})
    endif()
  endforeach()
  if(NOT missing)
    set(RACKMARK_HAS_CUDA ON)
  elseif(wanted STREQUAL "ON")
    message(FATAL_ERROR "RACKMARK_CUDA is ON and not found: ${missing}; looked in ${folders}; RACKMARK_CUDA_ROOT names others")
  else()
    message(STATUS "The GPU backend is not built, not found: ${missing}")
  endif()
endif()

if(RACKMARK_HAS_CUDA)
  set(CMAKE_CUDA_COMPILER ${RACKMARK_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${RACKMARK_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()

  add_library(rackmark_cuda_libraries INTERFACE)
  add_library(rackmark::cuda_libraries ALIAS rackmark_cuda_libraries)
  target_include_directories(rackmark_cuda_libraries SYSTEM INTERFACE
    ${RACKMARK_CUDA_INCLUDE} ${RACKMARK_CUDNN_INCLUDE} ${RACKMARK_CUBLAS_INCLUDE})
  target_link_libraries(rackmark_cuda_libraries INTERFACE
    ${RACKMARK_CUDNN} ${RACKMARK_CUBLASLT} ${RACKMARK_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)

  find_path(RACKMARK_NCCL_INCLUDE nccl.h HINTS ${folders} PATH_SUFFIXES ${headers} NO_CACHE)
  if(RACKMARK_NCCL_INCLUDE)
    add_library(rackmark_nccl INTERFACE)
    add_library(rackmark::nccl ALIAS rackmark_nccl)
    target_include_directories(rackmark_nccl SYSTEM INTERFACE ${RACKMARK_NCCL_INCLUDE})
  endif()
  message(STATUS "The GPU backend is built with ${RACKMARK_NVCC}, ${RACKMARK_CUDNN}, ${RACKMARK_CUBLASLT}")
endif()
