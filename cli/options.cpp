#include "cli/options.h"

#include "host/files.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <thread>

namespace ptq {

namespace {

std::filesystem::path environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::filesystem::path(value) : std::filesystem::path();
}

// $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub
std::filesystem::path hub_cache() {
  if (auto p = environment("HF_HUB_CACHE"); !p.empty()) return p;
  if (auto p = environment("HF_HOME"); !p.empty()) return p / "hub";
  if (auto p = environment("HOME"); !p.empty()) return p / ".cache" / "huggingface" / "hub";
  return {};
}

}  // namespace

std::unique_ptr<Ops> GlobalOptions::open_device(const std::string& step) const {
  const bool cpu = device == "auto" || device == "cpu", simt = device == "simt";
  require(step.empty() || !cpu, Exit::usage,
          "--device {}: the steps of the ladder are kernels; use --device cuda or simt", device);
  require(gemm == "own" || !(cpu || simt), Exit::usage,
          "--gemm {}: --device {} has no such library; use --device cuda, or --gemm own", gemm, device);
  // The kernels have not yet run on a GPU, so that nobody gets them without asking.
  if (cpu) return make_cpu_ops(threads);
  if (simt)
    return make_simt_ops(threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()),
                         {.memory = gpu_bytes(), .step = step});
  return open_gpu(step, gemm == "cublas");
}

std::unique_ptr<Ops> GlobalOptions::open_yardstick() const {
  return device.starts_with("cuda") ? open_gpu("gptq/1-naive", true) : nullptr;
}

std::unique_ptr<Ops> GlobalOptions::open_gpu([[maybe_unused]] const std::string& step, bool vendor) const {
#ifdef PTQ_WITH_CUDA
  constexpr std::size_t prefix = std::string_view("cuda:").size();
  int index = 0;
  const char *begin = device.data() + std::min(prefix, device.size()), *end = device.data() + device.size();
  const auto [stopped, error] = std::from_chars(begin, end, index);
  require(device == "cuda" || (error == std::errc{} && stopped == end), Exit::usage,
          "--device {}: expected cuda or cuda:N", device);
  return make_cuda_ops({index, gpu_bytes(), step, vendor});
#else
  fail(vendor ? Exit::usage : Exit::device,
       "--device {}: this build has no CUDA backend; build with nvcc, or use --device cpu", device);
#endif
}

std::size_t GlobalOptions::gpu_bytes() const {
  require(!std::isnan(gpu_memory), Exit::usage, "--gpu-memory nan: expected a number of GiB");
  return static_cast<std::size_t>(std::ceil(gpu_memory * (1 << 30)));
}

DType GlobalOptions::compute_dtype() const {
  if (dtype == "bf16") return DType::bf16;
  if (dtype == "fp16") return DType::f16;
  return DType::f32;
}

std::filesystem::path GlobalOptions::data_directory() const {
  return data.empty() ? environment("PTQ_DATA") : std::filesystem::path(data);
}

std::filesystem::path resolve_model(const std::string& model) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) return model;
  require(!fs::exists(model, ignored), Exit::missing, "{}: not a directory; give the directory of a model", model);

  const auto slash = model.find('/');
  const bool is_id = slash != std::string::npos && slash > 0 && slash + 1 < model.size() &&
                     model.find('/', slash + 1) == std::string::npos && model[0] != '.';
  if (is_id) {
    const fs::path repository = hub_cache() / ("models--" + model.substr(0, slash) + "--" + model.substr(slash + 1));
    if (fs::is_regular_file(repository / "refs" / "main", ignored)) {
      std::string revision = read_file(repository / "refs" / "main", "model revision", Size(4096));
      while (!revision.empty() && (revision.back() == '\n' || revision.back() == ' ')) revision.pop_back();
      const bool plain = !revision.empty() && revision.find_first_of("/.") == std::string::npos;
      if (plain && fs::is_directory(repository / "snapshots" / revision, ignored))
        return repository / "snapshots" / revision;
    }
    fail(Exit::missing,
         "{}: neither a directory nor in the Hugging Face cache ({}); get it with `huggingface-cli download {}`", model,
         hub_cache().string(), model);
  }
  fail(Exit::missing, "{}: no such directory", model);
}

}  // namespace ptq
