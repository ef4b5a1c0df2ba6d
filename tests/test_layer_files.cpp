// Cells in progress: a quantization that is interrupted after any layer goes on with the same bits.
#include "eval/layer_files.h"
#include "eval/store.h"
#include "host/ops.h"
#include "model/overlay.h"
#include "quant/changed_tensors.h"
#include "quant/export_format.h"
#include "tiny_grid.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace ptq {
namespace {

namespace fs = std::filesystem;

std::vector<Window> some_windows() {
  std::mt19937 random(3);
  std::vector<Window> windows(5);
  for (Window& w : windows) {
    w.resize(20 + random() % 10);
    for (auto& id : w) id = static_cast<std::int32_t>(random() % 40);
  }
  return windows;
}

struct Stopped {};

struct Quantized {
  std::map<std::string, std::string> tensors;  // all of the model's linears, norms and biases, as bytes
  nlohmann::json report;                       // without times
  FixedRanges first_ranges;
};

nlohmann::json without_seconds(nlohmann::json json) {
  json.erase("seconds");
  for (auto& linear : json.at("linears")) linear.erase("seconds");
  return json;
}

class LayerFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* family : {"llama", "opt", "cohere"}) write_tiny_model(tmp / family, family);
  }

  // Layers go to `partial` after each one; `stop` > 0: the process dies when so many of them are kept.
  Quantized quantize(const std::string& family, const QuantSpec& spec, const fs::path& directory, int stop = 0,
                     DType compute = DType::f32) {
    const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(tmp / family));
    const auto overlay = std::make_shared<TensorOverlay>(files);
    PartialCell partial(directory);
    LayerFiles layers(partial, 0.0, *overlay);
    const auto ops = make_cpu_ops(1);
    const DType floats = float_type(ExportFormat::fake, compute);
    ChangedTensors changed(*files, *ops, make_float_store(linear_type(spec, floats)), floats,
                           [&](const std::string& name, const Tensor& value) { layers.put(name, value); });
    int done = 0;
    QuantSink sink;
    sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
      if (stop > 0 && layer >= stop) throw Stopped();
      changed.linear(layer, role, m);
      computed_layers_ += role == LinearRole::down;
      done = layer;
    };
    sink.folded = [&](int layer, const BlockWeights& block) { changed.folded(layer, block); };
    const std::vector<Window> windows = some_windows();
    const QuantizeContext context{.layers = &layers};
    QuantizeReport report = quantize_linears(files, *ops, spec, compute, windows, sink, {}, context);
    Quantized result;
    const ModelFiles whole = files->with(overlay, report.activations);
    for (const auto& [name, info] : whole.checkpoint().tensors()) {
      const Tensor t = whole.checkpoint().read(name, info.dtype);
      result.tensors[name] =
          std::string(name_of(info.dtype)) + std::string(static_cast<const char*>(t.raw()), t.bytes());
    }
    if (!report.activations.fixed.empty()) result.first_ranges = report.activations.fixed[0];
    result.report = without_seconds(to_json(report));
    return result;
  }

  void expect_same(const Quantized& a, const Quantized& b) {
    EXPECT_EQ(a.report, b.report);
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (const auto& [name, bytes] : a.tensors) EXPECT_TRUE(bytes == b.tensors.at(name)) << name;
    EXPECT_EQ(a.first_ranges.input, b.first_ranges.input);
  }

  TemporaryDirectory tmp;
  int computed_layers_ = 0;
};

QuantSpec spec_of(const std::string& method, const std::string& scheme = "") {
  QuantSpec spec = defaults_of(parse_method(method));
  if (!scheme.empty()) apply_scheme(spec, scheme);
  return spec;
}

TEST_F(LayerFilesTest, GoesOnAfterEveryLayer) {
  QuantSpec whole_blocks = spec_of("gptq", "w4a16-g16-asym");
  whole_blocks.true_sequential = false;
  const std::vector<std::pair<std::string, QuantSpec>> specs{
      {"gptq", spec_of("gptq", "w4a16-g16-asym")},      {"gptq, two passes", whole_blocks},
      {"gptq w4a8", spec_of("gptq", "w4a8-g16-sym")},   {"awq", spec_of("awq", "w4a16-g16-asym")},
      {"smoothquant", spec_of("smoothquant")},          {"smoothquant static", spec_of("smoothquant", "w8a8-astatic")},
      {"rtn", spec_of("rtn", "w4a16-g16-asym")},        {"w8a8", spec_of("w8a8")},
      {"w8a8 static", spec_of("w8a8", "w8a8-astatic")}, {"nf4", spec_of("nf4", "wnf4a16-b32")},
  };
  for (const std::string family : {"llama", "opt", "cohere"}) {
    for (const auto& [name, spec] : specs) {
      SCOPED_TRACE(family + ", " + name);
      const Quantized expected = quantize(family, spec, tmp / "never");
      fs::remove_all(tmp / "never");
      const fs::path partial = tmp / "partial";
      for (int stop = 1; stop < tiny_layers; ++stop) {
        EXPECT_THROW(quantize(family, spec, partial, stop), Stopped);
        computed_layers_ = 0;
        expect_same(quantize(family, spec, partial), expected);
        // Static ranges of a smoothed model follow from all layers, so that it starts again.
        EXPECT_EQ(computed_layers_, name == "smoothquant static" ? tiny_layers : tiny_layers - stop);
        fs::remove_all(partial);
      }
      // Interrupted again and again.
      for (int stop = 1; stop < tiny_layers; ++stop) EXPECT_THROW(quantize(family, spec, partial, stop), Stopped);
      expect_same(quantize(family, spec, partial), expected);
      fs::remove_all(partial);
    }
  }
}

TEST_F(LayerFilesTest, HalvesKeepTheirBits) {
  const QuantSpec spec = spec_of("gptq", "w4a16-g16-asym");
  const Quantized expected = quantize("llama", spec, tmp / "never", 0, DType::bf16);
  EXPECT_THROW(quantize("llama", spec, tmp / "partial", 2, DType::bf16), Stopped);
  computed_layers_ = 0;
  expect_same(quantize("llama", spec, tmp / "partial", 0, DType::bf16), expected);
  EXPECT_EQ(computed_layers_, tiny_layers - 2);
}

// What is kept holds one state of hidden values, not one a layer.
TEST_F(LayerFilesTest, KeepsNoMoreThanItNeeds) {
  EXPECT_THROW(quantize("llama", spec_of("gptq", "w4a16-g16-asym"), tmp / "partial", 2), Stopped);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(tmp / "partial")) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"lock", "state.json", "layers-0-1.safetensors", "layers-1-2.safetensors",
                                          "hidden-2.safetensors"}));
}

// A state that is damaged in any way counts for nothing: the cell starts again, with the same result.
TEST_F(LayerFilesTest, DamagedFilesAreNotUsed) {
  const QuantSpec spec = spec_of("awq", "w4a16-g16-asym");
  const Quantized expected = quantize("llama", spec, tmp / "never");
  const fs::path partial = tmp / "partial";
  EXPECT_THROW(quantize("llama", spec, partial, 2), Stopped);
  std::mt19937 random(5);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(partial)) files.push_back(entry.path());
  files.erase(std::find(files.begin(), files.end(), partial / "lock"));
  ASSERT_EQ(files.size(), 4u);
  const fs::path copy = tmp / "copy";
  fs::copy(partial, copy, fs::copy_options::recursive);
  for (const fs::path& file : files) {
    const std::string content = get(file);
    for (int round = 0; round < 4; ++round) {
      SCOPED_TRACE(file.filename().string() + fmt::format(" {}", round));
      fs::remove_all(partial);
      fs::copy(copy, partial, fs::copy_options::recursive);
      std::string damaged = content;
      if (round == 0) damaged.resize(content.size() / 2);
      if (round == 1) damaged.clear();
      if (round >= 2) damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
      put(file, damaged);
      computed_layers_ = 0;
      expect_same(quantize("llama", spec, partial), expected);
      EXPECT_EQ(computed_layers_, tiny_layers);
    }
    fs::remove_all(partial);
    fs::copy(copy, partial, fs::copy_options::recursive);
    fs::remove(file);
    expect_same(quantize("llama", spec, partial), expected);
  }
  for (const std::string state : {"[]", "{}", "null", "{\"format\":\"ptq layers 1\",\"state\":{},\"sha256\":\"\"}",
                                  "{\"format\":\"ptq layers 1\",\"state\":[[[1]]],\"sha256\":3}"}) {
    fs::remove_all(partial);
    fs::copy(copy, partial, fs::copy_options::recursive);
    put(partial / "state.json", state);
    expect_same(quantize("llama", spec, partial), expected);
  }
}

// Two processes compute one cell: the second one keeps nothing, and leaves what the first one keeps.
TEST_F(LayerFilesTest, OneProcessAtATime) {
  const QuantSpec spec = spec_of("gptq", "w4a16-g16-asym");
  const fs::path directory = tmp / "store/partial/cell";
  const Quantized expected = quantize("llama", spec, tmp / "never");
  EXPECT_THROW(quantize("llama", spec, directory, 1), Stopped);
  {
    PartialCell first(directory);
    ASSERT_TRUE(first.use_existing());
    EXPECT_TRUE(first.use());
    const auto time = fs::last_write_time(directory / "state.json");
    computed_layers_ = 0;
    expect_same(quantize("llama", spec, directory), expected);
    EXPECT_EQ(computed_layers_, tiny_layers);
    EXPECT_EQ(fs::last_write_time(directory / "state.json"), time);
    EXPECT_FALSE(fs::exists(directory / "hidden-2.safetensors"));
    PartialCell second(directory);
    EXPECT_FALSE(second.use());
    EXPECT_FALSE(second.use_existing());
    second.drop();
    EXPECT_TRUE(fs::exists(directory / "state.json"));
  }
  computed_layers_ = 0;
  expect_same(quantize("llama", spec, directory), expected);
  EXPECT_EQ(computed_layers_, tiny_layers - 1);
  PartialCell(directory).drop();
  EXPECT_FALSE(fs::exists(directory));
  EXPECT_TRUE(fs::is_empty(directory.parent_path()));
  // Nobody's, because it is not there; another one's, because it was dropped and made again.
  PartialCell late(directory);
  EXPECT_FALSE(late.use_existing());
  EXPECT_FALSE(fs::exists(directory));
  EXPECT_TRUE(PartialCell(directory).use());
  EXPECT_TRUE(late.use());
  EXPECT_FALSE(PartialCell(directory).use());
  late.drop();
  EXPECT_TRUE(late.use());
  // A removal that was interrupted.
  fs::rename(directory, directory.string() + ".dropped.1");
  remove_dropped(directory.parent_path());
  EXPECT_TRUE(fs::is_empty(directory.parent_path()));
  remove_dropped(tmp / "nowhere");
  // A directory that cannot be made.
  put(tmp / "file", "x");
  expect_error(Exit::create, "partial", [&] { PartialCell(tmp / "file" / "partial").use(); });
}

}  // namespace
}  // namespace ptq
