// What lets one body of a kernel be compiled by nvcc for the device and by any C++ compiler for the
// host. nvcc makes no host version of a body: the host's is in kernels_host.cpp alone.
#pragma once

#ifdef __CUDACC__
#define RM_DEVICE __device__ __forceinline__
#define RM_UNROLL _Pragma("unroll")
#else
#define RM_DEVICE inline
#define RM_UNROLL
#endif
