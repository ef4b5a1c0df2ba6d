// The device, its memory and copies.
#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/runtime.h"

#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <utility>

namespace ptq::cuda {

CudaOps::CudaOps(const DeviceOptions& options, Launchers launchers) : launchers_(std::move(launchers)) {
  // The driver first: with an old one the calls after it fail without saying what to do. 0: there is none.
  int driver = 0, runtime = 0;
  cuda_check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  cuda_check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  require(driver == 0 || driver / 1000 >= runtime / 1000, Exit::device,
          "the NVIDIA driver supports CUDA {}.{}, this build needs {}.{}; update the driver, or use --device cpu",
          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
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
          "{} has compute capability {}.{}; this program needs 8.0 or newer (A100 and later), or --device cpu",
          properties.name, properties.major, properties.minor);
  void* fault = nullptr;
  cuda_check(cudaMallocHost(&fault, sizeof *fault_), "reserving memory of the host");
  fault_ = static_cast<std::int32_t*>(fault);
  *fault_ = 0;
  cuda_check(cudaStreamCreate(&stream_), "creating a stream");
  memory_ = std::make_shared<DeviceMemory>(options.memory, options.cached);
  name_ = properties.name;
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  launchers_ = {};  // libraries know the stream, which has to outlive them
  cudaStreamDestroy(stream_);
  cudaFreeHost(fault_);
}

std::string CudaOps::description() const { return fmt::format("{}, {} MiB to use", name_, memory_->cap() >> 20); }

Tensor CudaOps::empty(DType dtype, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(numel(shape)) * size_of(dtype);
  std::shared_ptr<void> memory = memory_->allocate(bytes);
  require(memory != nullptr, Exit::again, "out of GPU memory{}{}: {} {} takes {} MiB, {} of {} MiB are in use; {}",
          ranges_.empty() ? "" : " at ", fmt::join(ranges_, ", "), name_of(dtype), to_string(shape),
          (bytes + (1 << 20) - 1) >> 20, memory_->in_use() >> 20, memory_->cap() >> 20, memory_levers);
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

void CudaOps::synchronize() {
  cuda_check(cudaStreamSynchronize(stream_), "waiting for the device");
  const auto op = static_cast<RowOp>(std::exchange(*fault_, 0));
  check(op == RowOp::none, "{}: the number of a row that its table does not have",
        op == RowOp::embed      ? "embed"
        : op == RowOp::add_rows ? "add_rows"
                                : "gather_rows");
}

double CudaOps::seconds(const std::function<void()>& work) { return seconds_on(stream_, work); }

void CudaOps::evict_caches() {
  constexpr std::int64_t larger_than_caches = std::int64_t{192} << 20;  // three times the L2 of an H100
  const Tensor memory = empty(DType::u8, {larger_than_caches});
  cuda_check(cudaMemsetAsync(memory.raw(), 0, memory.bytes(), stream_), "clearing memory");
}

void CudaOps::begin_range(const char* name) {
  nvtxRangePushA(name);
  ranges_.emplace_back(name);
}

void CudaOps::end_range() {
  ranges_.pop_back();
  nvtxRangePop();
}

}  // namespace ptq::cuda
