// The device, its memory and copies.
#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/runtime.h"

#include <fmt/format.h>

namespace ptq::cuda {

CudaOps::CudaOps(const DeviceOptions& options) {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  require(error == cudaSuccess && devices > 0, Exit::device, "no CUDA device ({}); use --device cpu",
          error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  require(0 <= options.index && options.index < devices, Exit::device, "--device cuda:{}: there {} {} CUDA device{}",
          options.index, devices == 1 ? "is" : "are", devices, devices == 1 ? "" : "s");
  cuda_check(cudaSetDevice(options.index), "choosing the device");
  cudaDeviceProp properties{};
  cuda_check(cudaGetDeviceProperties(&properties, options.index), "asking for the device's properties");
  require(properties.major >= 8, Exit::device,
          "{} has compute capability {}.{}; this program needs 8.0 or newer (A100 and later)", properties.name,
          properties.major, properties.minor);
  int driver = 0, runtime = 0;
  cuda_check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  cuda_check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  require(driver / 1000 >= runtime / 1000, Exit::device,
          "the NVIDIA driver supports CUDA {}.{}, this build needs {}.{}; update the driver", driver / 1000,
          driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  cuda_check(cudaStreamCreate(&stream_), "creating a stream");
  memory_ = std::make_shared<DeviceMemory>(options.memory, options.cached);
  name_ = properties.name;
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

std::string CudaOps::description() const { return fmt::format("{}, {} MiB to use", name_, memory_->cap() >> 20); }

Tensor CudaOps::empty(DType dtype, Shape shape) {
  const std::int64_t n = numel(shape);
  std::shared_ptr<void> memory = memory_->allocate(static_cast<std::size_t>(n) * size_of(dtype));
  void* data = memory.get();
  return Tensor::wrap(dtype, std::move(shape), data, std::move(memory), Place::device);
}

Tensor CudaOps::to_device(const Tensor& host) {
  if (!host || host.place() == Place::device) return host;
  const Tensor device = empty(host.dtype(), host.shape());
  if (host.bytes() > 0) {
    cuda_check(cudaMemcpyAsync(device.raw(), host.raw(), host.bytes(), cudaMemcpyHostToDevice, stream_),
               "copying to the device");
    synchronize();  // pageable memory: the caller may change it after this returns
  }
  return device;
}

Tensor CudaOps::to_host(const Tensor& device) {
  if (!device || device.place() == Place::host) return device;
  const Tensor host = Tensor::empty(device.dtype(), device.shape());
  if (host.bytes() > 0) {
    cuda_check(cudaMemcpyAsync(host.raw(), device.raw(), host.bytes(), cudaMemcpyDeviceToHost, stream_),
               "copying from the device");
  }
  synchronize();
  return host;
}

void CudaOps::synchronize() { cuda_check(cudaStreamSynchronize(stream_), "waiting for the device"); }

double CudaOps::seconds(const std::function<void()>& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  cuda_check(cudaEventCreate(&begin), "creating an event");
  cuda_check(cudaEventCreate(&end), "creating an event");
  cuda_check(cudaEventRecord(begin, stream_), "recording an event");
  work();
  cuda_check(cudaEventRecord(end, stream_), "recording an event");
  cuda_check(cudaEventSynchronize(end), "waiting for an event");
  float milliseconds = 0.0f;
  cuda_check(cudaEventElapsedTime(&milliseconds, begin, end), "reading an event");
  cuda_check(cudaEventDestroy(begin), "destroying an event");
  cuda_check(cudaEventDestroy(end), "destroying an event");
  return milliseconds / 1e3;
}

void CudaOps::evict_caches() {
  constexpr std::int64_t larger_than_caches = std::int64_t{192} << 20;  // three times the L2 of an H100
  const Tensor memory = empty(DType::u8, {larger_than_caches});
  cuda_check(cudaMemsetAsync(memory.raw(), 0, memory.bytes(), stream_), "clearing memory");
}

}  // namespace ptq::cuda
