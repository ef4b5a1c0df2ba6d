// The runtime calls of the stand-in <cuda_runtime.h>. Memory is the host's, filled with 0xff, one allocation each, so
// that AddressSanitizer sees every access beyond it. Allocations can be made to fail and the device to be missing or
// too old, to test what becomes of it.
#include "cuda/simt/runtime.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdlib>
#include <string_view>

struct CUevent_st {
  std::chrono::steady_clock::time_point recorded;
};

namespace simt {

namespace {

std::int64_t from_environment() {
  const char* text = std::getenv("PTQ_SIMT_FAIL_ALLOCATION");
  return text == nullptr ? -1 : std::atoll(text);
}

std::atomic<std::int64_t> until_failure{from_environment()};  // < 0: never
std::atomic<void (*)()> allocation_observer{nullptr};

// Is this machine to be the one that $PTQ_SIMT_MACHINE names: without-gpu, with-old-gpu, with-old-driver?
bool machine_is(std::string_view kind) {
  const char* text = std::getenv("PTQ_SIMT_MACHINE");
  return text != nullptr && text == kind;
}

constexpr int toolkit = 13000, old_driver = 12040;

}  // namespace

void fail_allocation(std::int64_t after) { until_failure = after; }

void observe_allocations(void (*observer)()) { allocation_observer = observer; }

cudaError_t allocate(void** memory, std::size_t bytes) {
  constexpr std::size_t alignment = 256;  // as cudaMalloc
  *memory = nullptr;
  if (const auto observer = allocation_observer.load()) observer();
  if (until_failure >= 0 && until_failure-- == 0) return cudaErrorMemoryAllocation;
  if (posix_memalign(memory, alignment, std::max<std::size_t>(bytes, 1)) != 0) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xff, bytes);
  return cudaSuccess;
}

}  // namespace simt

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (simt::machine_is("without-gpu")) return cudaErrorNoDevice;
  if (simt::machine_is("with-old-driver")) return cudaErrorInsufficientDriver;
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return cudaErrorNoDevice;
  *properties = {};
  std::strcpy(properties->name, "SIMT executor");
  properties->major = 8;  // what it knows of PTX
  if (simt::machine_is("with-old-gpu")) properties->major = 7, properties->minor = 5;
  properties->multiProcessorCount = 1;
  properties->totalGlobalMem = std::size_t{1} << 40;
  properties->sharedMemPerBlockOptin = simt::most_shared;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = simt::machine_is("without-gpu")       ? 0
             : simt::machine_is("with-old-driver") ? simt::old_driver
                                                   : simt::toolkit;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = simt::toolkit;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{1} << 40;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return simt::allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) {
  simt::when_done([memory] { std::free(memory); });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return simt::allocate(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (bytes > 0) simt::put(stream, simt::Work::copy, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes > 0) simt::put(stream, simt::Work::copy, [=] { std::memset(memory, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = simt::make_stream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  simt::destroy(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  simt::finish(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  simt::wait_for(stream, event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = simt::make_event();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  simt::destroy(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  simt::record(event, stream);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  simt::finish(event);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(1e3 * simt::seconds_between(begin, end));
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(error);
}
