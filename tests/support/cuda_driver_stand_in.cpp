// A stand-in for NVIDIA's driver library libcuda.so.1, for machines without one: it takes every
// kernel that is loaded and has no device that could run one. Engines that cuDNN compiles at run
// time come as far as plans with it.
#include <cstring>

extern "C" {

using Result = int;
constexpr Result kSuccess = 0, kNoDevice = 100;

Result cuInit(unsigned) { return kSuccess; }
Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
Result cuDeviceGetCount(int* count) {
  *count = 0;
  return kSuccess;
}
Result cuGetErrorName(Result, const char** text) {
  *text = "of the stand-in";
  return kSuccess;
}
Result cuGetErrorString(Result code, const char** text) { return cuGetErrorName(code, text); }
Result cuLibraryLoadData(void** library) {
  *library = library;
  return kSuccess;
}
Result cuLibraryGetKernel(void** kernel) {
  *kernel = kernel;
  return kSuccess;
}

// Taken as done.
#define RM_TAKEN(name) \
  Result name() { return kSuccess; }
RM_TAKEN(cuLibraryUnload)
RM_TAKEN(cuLibraryLoadFromFile)
RM_TAKEN(cuKernelSetAttribute)
RM_TAKEN(cuKernelGetAttribute)
#undef RM_TAKEN

// Looked for by libraries, and of no use without a device.
#define RM_NO_DEVICE(name) \
  Result name() { return kNoDevice; }
RM_NO_DEVICE(cuCtxGetCurrent)
RM_NO_DEVICE(cuCtxGetDevice)
RM_NO_DEVICE(cuCtxGetLimit)
RM_NO_DEVICE(cuCtxPopCurrent)
RM_NO_DEVICE(cuCtxPushCurrent)
RM_NO_DEVICE(cuDeviceGet)
RM_NO_DEVICE(cuDeviceGetAttribute)
RM_NO_DEVICE(cuDevicePrimaryCtxRelease)
RM_NO_DEVICE(cuDevicePrimaryCtxReset)
RM_NO_DEVICE(cuDevicePrimaryCtxRetain)
RM_NO_DEVICE(cuFuncGetAttribute)
RM_NO_DEVICE(cuFuncSetAttribute)
RM_NO_DEVICE(cuGetExportTable)
RM_NO_DEVICE(cuLaunchCooperativeKernel)
RM_NO_DEVICE(cuLaunchKernel)
RM_NO_DEVICE(cuLaunchKernelEx)
RM_NO_DEVICE(cuLinkAddData)
RM_NO_DEVICE(cuLinkAddData_v2)
RM_NO_DEVICE(cuLinkAddFile_v2)
RM_NO_DEVICE(cuLinkComplete)
RM_NO_DEVICE(cuLinkCreate)
RM_NO_DEVICE(cuLinkCreate_v2)
RM_NO_DEVICE(cuLinkDestroy)
RM_NO_DEVICE(cuMemcpyDtoH_v2)
RM_NO_DEVICE(cuModuleGetFunction)
RM_NO_DEVICE(cuModuleGetGlobal_v2)
RM_NO_DEVICE(cuModuleLoadData)
RM_NO_DEVICE(cuModuleLoadDataEx)
RM_NO_DEVICE(cuModuleLoadFatBinary)
RM_NO_DEVICE(cuModuleUnload)
RM_NO_DEVICE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
RM_NO_DEVICE(cuOccupancyMaxPotentialClusterSize)
RM_NO_DEVICE(cuStreamGetCtx)
RM_NO_DEVICE(cuStreamSynchronize)
RM_NO_DEVICE(cuTensorMapEncodeTiled)
#undef RM_NO_DEVICE

Result cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* found) {
  struct Known {
    const char* name;
    void* function;
  };
  const Known all[] = {
      {"cuInit", reinterpret_cast<void*>(cuInit)},
      {"cuDriverGetVersion", reinterpret_cast<void*>(cuDriverGetVersion)},
      {"cuDeviceGetCount", reinterpret_cast<void*>(cuDeviceGetCount)},
      {"cuGetErrorName", reinterpret_cast<void*>(cuGetErrorName)},
      {"cuGetErrorString", reinterpret_cast<void*>(cuGetErrorString)},
      {"cuLibraryLoadData", reinterpret_cast<void*>(cuLibraryLoadData)},
      {"cuLibraryGetKernel", reinterpret_cast<void*>(cuLibraryGetKernel)},
      {"cuLibraryUnload", reinterpret_cast<void*>(cuLibraryUnload)},
  };
  *function = reinterpret_cast<void*>(cuDeviceGet);
  for (const Known& known : all) {
    if (std::strcmp(name, known.name) == 0) *function = known.function;
  }
  if (found != nullptr) *found = 0;  // CU_GET_PROC_ADDRESS_SUCCESS
  return kSuccess;
}
Result cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

}  // extern "C"
