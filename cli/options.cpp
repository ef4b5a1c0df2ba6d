#include "cli/options.h"

#include "host/files.h"

#include <charconv>
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

std::unique_ptr<Ops> GlobalOptions::open_device() const {
  // The kernels have not yet run on a GPU, so that nobody gets them without asking.
  if (device == "auto" || device == "cpu") return make_cpu_ops(threads);
  if (device == "simt")
    return make_simt_ops(threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
#ifdef PTQ_WITH_CUDA
  constexpr std::size_t prefix = std::string_view("cuda:").size();
  int index = 0;
  const char *begin = device.data() + std::min(prefix, device.size()), *end = device.data() + device.size();
  const auto [stopped, error] = std::from_chars(begin, end, index);
  require(device == "cuda" || (error == std::errc{} && stopped == end), Exit::usage,
          "--device {}: expected cuda or cuda:N", device);
  return make_cuda_ops(index, static_cast<std::size_t>(gpu_memory * (1 << 30)));
#else
  fail(Exit::device, "--device {}: this build has no CUDA backend; build with nvcc, or use --device cpu", device);
#endif
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
    fail(Exit::missing, "{}: neither a directory nor in the Hugging Face cache ({}); download it first", model,
         hub_cache().string());
  }
  fail(Exit::missing, "{}: no such directory", model);
}

}  // namespace ptq
