// Memory that runs out, at every allocation of whole commands: `ptq --device simt` with $PTQ_SIMT_FAIL_ALLOCATION = 0,
// 1, ... until the command gets through. And machines whose GPU cannot be used.
#include "cuda/simt/runtime.h"
#include "data/ids.h"
#include "program.h"
#include "quant/quantize_checkpoint.h"
#include "tiny_checkpoint.h"
#include "tiny_tokenizer.h"

#include <execinfo.h>

namespace ptq {
namespace {

namespace fs = std::filesystem;

// A sanitizer makes a command ten times as slow; then only every seventh allocation fails.
#ifdef __SANITIZE_ADDRESS__
constexpr int stride = 7;
#else
constexpr int stride = 1;
#endif

class AllocationFailures : public ::testing::Test {
 protected:
  // A model with a token per byte, and what the commands read.
  static void SetUpTestSuite() {
    inputs = std::make_unique<TemporaryDirectory>();
    auto config = tiny_config();
    auto tensors = tiny_tensors();
    const int vocabulary = 260;
    config["vocab_size"] = vocabulary;
    for (const char* table : {"model.embed_tokens.weight", "lm_head.weight"})
      tensors[table] = random_tensor({vocabulary, 16}, 5);
    fs::create_directories(*inputs / "model");
    put_tiny(*inputs / "model", config, tensors);
    inputs->write("model/tokenizer.json", byte_level_json({}).dump());
    inputs->write("ids", "1 2 3 4 5 6 7 8\n9 10 11 12 13 14 15 16\n");
    inputs->write("text", "some text of 24 letters.");
    inputs->write("choices", R"({"context": "a", "choices": ["b", "c d"], "gold": 0})"
                             "\n");
    const Outcome packed =
        run_ptq(inputs->path(), "quantize " + model() + " " + input("packed") +
                                    " --method rtn --scheme w4a16-g8-asym --format compressed-tensors");
    ASSERT_EQ(packed.code, 0) << packed.err;

    config = tiny_config();
    tensors = tiny_tensors();
    const int blocks = 8;
    config["num_hidden_layers"] = blocks;
    for (const auto& [name, tensor] : tiny_tensors()) {
      const std::string first = "model.layers.0.";
      if (!name.starts_with(first)) continue;
      for (int i = 2; i < blocks; ++i) tensors[fmt::format("model.layers.{}.", i) + name.substr(first.size())] = tensor;
    }
    fs::create_directories(*inputs / "deep");
    put_tiny(*inputs / "deep", config, tensors);
  }
  static void TearDownTestSuite() { inputs.reset(); }

  static std::string input(const std::string& name) { return (*inputs / name).string(); }
  static std::string model() { return input("model"); }
  static std::string calibration() { return " --calibration ids:" + input("ids") + " --samples 2 --seqlen 8"; }
  std::string out() const { return (outputs / "out").string(); }

  Outcome fail_at(std::int64_t allocation, const std::string& arguments) const {
    return run_ptq(stderr_.path(), "--device simt --threads 1 --progress none " + arguments,
                   "export OMP_WAIT_POLICY=passive PTQ_SIMT_FAIL_ALLOCATION=" + std::to_string(allocation));
  }

  // Every `step`-th allocation of a command, and all of the first 40. Returns what the program said.
  std::string every_allocation(const std::string& arguments, int step = stride) const {
    std::string said;
    std::int64_t index = 0, located = 0;
    for (;; index += index < 40 ? stride : step) {
      SCOPED_TRACE(fmt::format("allocation {} of ptq {}", index, arguments));
      Outcome r = fail_at(index, arguments);
      if (r.code == 0) break;
      if (r.err.starts_with("weights: streamed, ")) r.err.erase(0, r.err.find('\n') + 1);  // said while all was well
      expect_failure(r, 75, {"out of", "--gpu-memory", "--device cpu"});
      EXPECT_EQ(outputs.entries(), 0u);
      if (HasFailure()) break;
      said += r.err;
      located += r.err.find("block 1") != std::string::npos;
    }
    EXPECT_GT(located, 0);  // it allocated at all, and said where
    std::printf("%d allocations\n", static_cast<int>(index));
    return said;
  }

  static std::unique_ptr<TemporaryDirectory> inputs;
  TemporaryDirectory outputs, stderr_;
};
std::unique_ptr<TemporaryDirectory> AllocationFailures::inputs;

TEST_F(AllocationFailures, Logits) {
  every_allocation("logits " + model() + " --ids " + input("ids") + " --taps --out " + out());
}
TEST_F(AllocationFailures, LogitsOfPackedWeights) {
  every_allocation("--dtype bf16 logits " + input("packed") + " --ids " + input("ids") + " --out " + out());
}
// Blocks that take turns on the device: memory of the host for all, memory of the device for two.
TEST_F(AllocationFailures, LogitsOfStreamedWeights) {
  const std::string said =
      every_allocation("--gpu-memory 5e-5 logits " + input("deep") + " --ids " + input("ids") + " --out " + out());
  if (stride > 1) return;
  EXPECT_NE(said.find("out of host memory for weights that do not fit"), std::string::npos);
  EXPECT_NE(said.find("out of GPU memory for two blocks of weights"), std::string::npos);
}
TEST_F(AllocationFailures, Perplexity) {
  every_allocation("eval " + model() + " --text " + input("text") +
                   " --seqlen 8 --windows 1 --decode-tokens 1 --json " + out());
}
TEST_F(AllocationFailures, ChoicesAndDivergence) {
  every_allocation("eval " + model() + " --metrics choice,kld --choices " + input("choices") + " --against " +
                   input("packed") + " --text " + input("text") + " --seqlen 8 --windows 1 --decode-tokens 0 --json " +
                   out());
}
TEST_F(AllocationFailures, Generate) {
  every_allocation("generate " + model() + " --prompt ab --tokens 2 --ignore-eos");
}
TEST_F(AllocationFailures, Gptq) {
  every_allocation("quantize " + model() + " " + out() + " --method gptq --group 8" + calibration());
}
TEST_F(AllocationFailures, SmoothQuant) {
  every_allocation("quantize " + model() + " " + out() + " --method smoothquant" + calibration());
}
TEST_F(AllocationFailures, Int8) {
  every_allocation("quantize " + model() + " " + out() + " --method w8a8 --format compressed-tensors");
}
TEST_F(AllocationFailures, Nf4) {
  every_allocation("quantize " + model() + " " + out() + " --method nf4 --double-quant");
}
TEST_F(AllocationFailures, Activations) {
  every_allocation("activations " + model() + calibration() + " --out " + out());
}
// AWQ allocates the same again for each of 20 ratios: here a spread, below every place of the program that allocates.
TEST_F(AllocationFailures, Awq) {
  every_allocation("quantize " + model() + " " + out() + " --method awq --group 8" + calibration(), 97);
}

// The first allocation by each way through the program, by the return addresses of its callers.
std::map<std::vector<void*>, std::int64_t> places;
std::int64_t allocations = 0;
void note_place() {
  std::vector<void*> callers(64);
  callers.resize(static_cast<std::size_t>(::backtrace(callers.data(), static_cast<int>(callers.size()))));
  places.emplace(std::move(callers), allocations++);
}

TEST_F(AllocationFailures, AwqAtEveryPlaceThatAllocates) {
  auto ops = make_simt_ops(1);
  QuantizeJob job{.model = model(), .output = out(), .force = false, .spec = defaults_of(Method::awq)};
  job.spec.group = 8;
  const std::vector<Window> windows = read_id_lines(input("ids"));
  const auto run = [&] { quantize_checkpoint(*ops, job, windows, nullptr); };
  ::simt::observe_allocations(note_place);
  run();
  ::simt::observe_allocations(nullptr);
  const std::string expected = read_file(outputs / "out" / "model.safetensors", "weights");
  fs::remove_all(outputs / "out");
  std::printf("%d places, %d allocations\n", static_cast<int>(places.size()), static_cast<int>(allocations));
  EXPECT_GT(places.size(), 50u);
  int number = 0;
  for (const auto& [callers, index] : places) {
    if (number++ % stride != 0) continue;
    SCOPED_TRACE(fmt::format("allocation {}", index));
    ops = make_simt_ops(1);  // which remembers nothing, so that allocations have the same numbers
    ::simt::fail_allocation(index);
    expect_error(Exit::again, "--gpu-memory", run);
    ::simt::fail_allocation(-1);
    EXPECT_EQ(outputs.entries(), 0u);
    if (HasFailure()) return;
  }
  run();  // what ran out of memory goes on as if nothing had happened
  EXPECT_EQ(read_file(outputs / "out" / "model.safetensors", "weights"), expected);
}

// A cap of GPU memory refuses what the device would give: a model before it is loaded, else an allocation.
TEST_F(AllocationFailures, CapOfMemory) {
  const Outcome load =
      fail_at(-1, "--gpu-memory 1e-5 logits " + model() + " --ids " + input("ids") + " --out " + out());
  expect_failure(load, 75, {"of GPU memory are too little for this model", "--gpu-memory"});
  const Outcome step = fail_at(-1, "--gpu-memory 1e-7 quantize " + model() + " " + out() + " --method nf4");
  expect_failure(step, 75, {"out of GPU memory at block 0", "0 of 0 MiB", "--gpu-memory"});
  EXPECT_EQ(outputs.entries(), 0u);
}

TEST_F(AllocationFailures, NoUsableDevice) {
  const auto on = [&](const std::string& machine) {
    return run_ptq(stderr_.path(), "--device simt logits " + model() + " --ids " + input("ids") + " --out " + out(),
                   "export PTQ_SIMT_MACHINE=" + machine);
  };
  expect_failure(on("without-gpu"), 69, {"no CUDA device", "--device cpu"});
  expect_failure(on("with-old-gpu"), 69, {"compute capability 7.5", "8.0", "--device cpu"});
  expect_failure(on("with-old-driver"), 69, {"driver supports CUDA 12.4", "needs 13.0", "update the driver"});
  EXPECT_EQ(outputs.entries(), 0u);
}

}  // namespace
}  // namespace ptq
