// Activation studies against plain statistics of what a forward pass shows, merging, files and what is read from them.
#include "compare.h"
#include "device.h"
#include "eval/activation_files.h"
#include "eval/activation_summary.h"
#include "host/checkpoint.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace ptq::testing {
namespace {

namespace fs = std::filesystem;

const fs::path models = fs::path(PTQ_SOURCE_DIR) / "tests" / "golden" / "models";

Transformer open_model(const std::string& name) {
  return Transformer(std::make_shared<const ModelFiles>(ModelFiles::open(models / name)), ops(), DType::f32);
}

std::vector<Window> random_windows(std::int64_t vocab, const std::vector<std::size_t>& lengths, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<std::int32_t> id(0, static_cast<std::int32_t>(vocab) - 1);
  std::vector<Window> windows;
  for (const std::size_t n : lengths) {
    for (std::int32_t& x : windows.emplace_back(n)) x = id(random);
  }
  return windows;
}

ActivationStudy study(const Transformer& model, std::span<const Window> windows, const ActivationSpec& spec) {
  Seconds seconds;
  return study_activations(model, windows, spec, seconds);
}

// All values of one channel, in long double.
struct Plain {
  std::vector<long double> x;

  long double central(int power) const {
    long double mean = 0.0L, sum = 0.0L;
    for (const long double v : x) mean += v / static_cast<long double>(x.size());
    if (power == 0) return mean;
    for (const long double v : x) sum += std::pow(v - mean, power) / static_cast<long double>(x.size());
    return sum;
  }
};

// By module, layer: the rows that pass, position 0 and the others.
struct Seen {
  std::map<std::pair<std::size_t, int>, std::vector<Tensor>> first, rest;

  Seen(Transformer& model, std::span<const Window> windows, ActivationSide side) {
    model.load_all();
    Taps taps;
    const auto keep = [&](std::size_t m, int layer, const Tensor& y) {
      const Tensor copy = y.clone();
      first[{m, layer}].push_back(copy.slice_rows(0, 1));
      rest[{m, layer}].push_back(copy.slice_rows(1, copy.rows()));
    };
    if (side == ActivationSide::output) {
      taps.linear_output = [&](int layer, LinearRole role, const Tensor& y) {
        if (role == LinearRole::o || role == LinearRole::down) keep(role == LinearRole::o ? 0 : 1, layer, y);
      };
    } else {
      taps.stage_input = [&](int layer, Stage stage, const Tensor& x) {
        if (stage == Stage::o || stage == Stage::down) keep(stage == Stage::o ? 0 : 1, layer, x);
      };
    }
    for (const Window& w : windows) {
      Batch batch;
      batch.append(w);
      model.forward(batch, &taps);
    }
  }
};

void expect_profile(const ActivationSums& sums, std::int64_t layer, const std::vector<Tensor>& rows,
                    const ActivationSpec& spec) {
  std::int64_t tokens = 0;
  for (const Tensor& t : rows) tokens += t.rows();
  const ChannelProfile p = profile_of(sums, tokens);
  const std::int64_t channels = sums.channels();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(spec.bins + 2));
  for (std::int64_t c = 0; c < channels; ++c) {
    Plain plain;
    for (const Tensor& t : rows) {
      for (std::int64_t r = 0; r < t.rows(); ++r) plain.x.push_back(element(t, r * channels + c));
    }
    const auto [low, high] = std::minmax_element(plain.x.begin(), plain.x.end());
    const std::int64_t at = layer * channels + c;
    const double largest = static_cast<double>(std::max(std::fabs(*low), std::fabs(*high)));
    EXPECT_NEAR(element(p.mean, at), static_cast<double>(plain.central(0)), 1e-13 * largest);
    EXPECT_EQ(element(p.min, at), static_cast<double>(*low));
    EXPECT_EQ(element(p.max, at), static_cast<double>(*high));
    EXPECT_EQ(element(p.absmax, at), largest);
    // Raw moments: absolute errors of a few ulp of the largest power, seen relative to the variance.
    const auto variance = static_cast<double>(plain.central(2));
    if (variance == 0.0) {
      EXPECT_TRUE(std::isnan(element(p.kurtosis, at)));
    } else {
      const double kurtosis = static_cast<double>(plain.central(4)) / (variance * variance);
      const double unit64 = 0x1p-53 * static_cast<double>(tokens + 8) * 16.0;
      EXPECT_NEAR(element(p.kurtosis, at), kurtosis,
                  unit64 * (std::pow(largest, 4) / (variance * variance) + kurtosis * largest * largest / variance));
    }
    for (const long double v : plain.x) {
      std::int64_t bin = v < -spec.range ? 0 : spec.bins + 1;
      for (std::int64_t b = 0; b < spec.bins && v >= -spec.range && v < spec.range; ++b) {
        if (v >= -spec.range + 2.0 * spec.range * static_cast<double>(b) / static_cast<double>(spec.bins)) bin = b + 1;
      }
      ++counts[static_cast<std::size_t>(bin)];
    }
  }
  const auto got = sums.counts.slice_rows(layer, layer + 1).span<std::int64_t>();
  EXPECT_TRUE(std::equal(got.begin(), got.end(), counts.begin(), counts.end()));
}

TEST(Activations, StatisticsOfWhatPasses) {
  for (const char* name : {"llama-gqa", "opt", "cohere"}) {
    for (ActivationSide side : {ActivationSide::output, ActivationSide::input}) {
      SCOPED_TRACE(std::string(name) + " " + std::string(name_of(side)));
      Transformer model = open_model(name);
      const auto windows = random_windows(model.config().vocab, {9, 2, 17, 5}, 3);
      const ActivationSpec spec{side, 12, 0.05, 20};
      const ActivationStudy got = study(model, windows, spec);
      EXPECT_EQ(got.windows, 4);
      EXPECT_EQ(got.tokens, 33);
      const Seen seen(model, windows, side);
      for (const auto& [key, rows] : seen.first) {
        const ModuleActivations& module = got.modules[key.first];
        std::vector<Tensor> whole = rows, others = seen.rest.at(key);
        whole.insert(whole.end(), others.begin(), others.end());
        expect_profile(module.first, key.second, rows, spec);
        expect_profile(module.rest, key.second, others, spec);
        expect_profile(module.whole(), key.second, whole, spec);
      }
      EXPECT_EQ(seen.first.size(), 2u * static_cast<std::size_t>(model.config().layers));
    }
  }
}

TEST(Activations, ChunksDoNotMatter) {
  const Transformer model = open_model("llama-gqa");
  const auto windows = random_windows(model.config().vocab, {9, 2, 17, 5, 1}, 3);
  const ActivationStudy one = study(model, windows, {ActivationSide::output, 50, 0.1, 1}),
                        all = study(model, windows, {ActivationSide::output, 50, 0.1, 1000});
  for (std::size_t m = 0; m < one.modules.size(); ++m) {
    EXPECT_TRUE(same_bits(one.modules[m].first.moments, all.modules[m].first.moments));
    EXPECT_TRUE(same_bits(one.modules[m].rest.moments, all.modules[m].rest.moments));
    EXPECT_EQ(0, std::memcmp(one.modules[m].rest.wide.raw(), all.modules[m].rest.wide.raw(),
                             one.modules[m].rest.wide.bytes()));
  }
}

void expect_equal_sums(const ActivationSums& a, const ActivationSums& b, double tokens) {
  EXPECT_EQ(0, std::memcmp(a.counts.raw(), b.counts.raw(), b.counts.bytes()));
  EXPECT_EQ(0, std::memcmp(a.wide.raw(), b.wide.raw(), b.wide.bytes()));
  EXPECT_TRUE(same_bits(a.extremes, b.extremes));
  const std::int64_t channels = a.channels();
  for (std::int64_t i = 0; i < a.moments.numel(); ++i) {
    // Odd moments cancel: their error is relative to that of their magnitudes, bounded through extremes.
    const std::int64_t power = std::max<std::int64_t>(1, i / channels % 5), layer = i / (5 * channels);
    const auto* extremes = b.extremes.data<float>() + layer * 2 * channels + i % channels;
    const double largest = std::max(std::fabs(extremes[0]), std::fabs(extremes[channels]));
    EXPECT_NEAR(element(a.moments, i), element(b.moments, i),
                tokens * tokens * 0x1p-53 * std::pow(largest, static_cast<double>(power)));
  }
}

TEST(Activations, MergedPartsAreTheWhole) {
  const Transformer model = open_model("opt");
  const auto windows = random_windows(model.config().vocab, {9, 2, 17, 5, 12}, 4);
  const ActivationSpec spec{ActivationSide::output, 40, 0.2, 64};
  const std::span<const Window> all(windows);
  const ActivationStudy whole = study(model, all, spec);
  ActivationStudy sum = study(model, all.subspan(0, 2), spec);
  const ActivationStudy before = sum;
  const Tensor untouched = before.modules[0].rest.counts.clone();
  sum.merge(study(model, all.subspan(2), spec));
  EXPECT_EQ(sum.windows, whole.windows);
  EXPECT_EQ(sum.tokens, whole.tokens);
  for (std::size_t m = 0; m < sum.modules.size(); ++m) {
    expect_equal_sums(sum.modules[m].first, whole.modules[m].first, 45.0);
    expect_equal_sums(sum.modules[m].rest, whole.modules[m].rest, 45.0);
  }
  EXPECT_EQ(0, std::memcmp(untouched.raw(), before.modules[0].rest.counts.raw(), untouched.bytes()));

  const auto refused = [&](ActivationSpec other, const char* what) {
    expect_error(Exit::data, what, [&] { sum.merge(study(model, all.subspan(0, 1), other)); });
  };
  refused({ActivationSide::input, 40, 0.2, 64}, "side");
  refused({ActivationSide::output, 41, 0.2, 64}, "bins");
  refused({ActivationSide::output, 40, 0.3, 64}, "range");
}

TEST(Activations, Refusals) {
  const Transformer model = open_model("opt");
  const auto windows = random_windows(model.config().vocab, {4}, 1);
  expect_error(Exit::usage, "--bins", [&] { study(model, windows, {ActivationSide::output, 0, 1.0, 64}); });
  expect_error(Exit::usage, "--range", [&] { study(model, windows, {ActivationSide::output, 4, -1.0, 64}); });
  expect_error(Exit::usage, "--range", [&] { study(model, windows, {ActivationSide::output, 4, NAN, 64}); });
  expect_error(Exit::data, "no windows", [&] { study(model, {}, {}); });
  expect_error(Exit::usage, "side", [] { parse_side("both"); });
}

StoredStudy stored_study(const std::vector<std::size_t>& lengths, unsigned seed) {
  const Transformer model = open_model("llama-gqa");
  const auto windows = random_windows(model.config().vocab, lengths, seed);
  return {study(model, windows, {ActivationSide::output, 16, 0.1, 64}),
          {{"model", {{"name", "llama"}}}, {"compute", {{"dtype", "fp32"}}}, {"calibration", {{{"ids", seed}}}}}};
}

void write(const fs::path& directory, const StoredStudy& stored) {
  OutputDirectory output(directory, false, 0);
  write_study(output, stored);
}

TEST(ActivationFiles, RoundTripAndMerge) {
  const TemporaryDirectory tmp;
  const StoredStudy a = stored_study({5, 9}, 1), b = stored_study({1}, 2);
  write(tmp / "a", a);
  write(tmp / "b", b);
  const StoredStudy read = read_study(tmp / "a"), lone = read_study(tmp / "b");
  EXPECT_EQ(read.about, a.about);
  EXPECT_EQ(read.study.tokens, 14);
  EXPECT_EQ(read.study.windows, 2);
  for (std::size_t m = 0; m < 2; ++m) {
    EXPECT_TRUE(same_bits(read.study.modules[m].rest.moments, a.study.modules[m].rest.moments));
    EXPECT_TRUE(same_bits(lone.study.modules[m].rest.extremes, b.study.modules[m].rest.extremes));  // infinities
  }
  EXPECT_EQ(summary_json(read.study), summary_json(a.study));
  EXPECT_TRUE(summary_json(lone.study)["o"]["without_first"].is_null());
  EXPECT_EQ(comparison_json(read.study, read.study)["down"]["whole"]["by_mean"]["mean"], 1.0);
  EXPECT_TRUE(comparison_json(read.study, lone.study)["down"]["without_first"].is_null());

  const StoredStudy both = merged({read, lone});
  EXPECT_EQ(both.study.tokens, 15);
  EXPECT_EQ(both.about["calibration"].size(), 2u);
  write(tmp / "both", both);
  EXPECT_EQ(read_study(tmp / "both").study.tokens, 15);

  expect_error(Exit::data, "twice", [&] { merged({read, lone, read}); });
  StoredStudy other = lone;
  other.about["model"]["name"] = "opt";
  expect_error(Exit::data, "\"model\"", [&] { merged({read, other}); });
}

TEST(ActivationFiles, DamageIsNamed) {
  const TemporaryDirectory tmp;
  const StoredStudy good = stored_study({5, 9}, 1);
  int number = 0;
  const auto damaged = [&](Exit code, const char* what, const std::function<void(nlohmann::json&)>& edit_json,
                           const std::function<void(std::map<std::string, Tensor>&)>& edit_arrays) {
    SCOPED_TRACE(what);
    const fs::path dir = tmp / std::to_string(number++);
    write(dir, good);
    nlohmann::json json = nlohmann::json::parse(get(dir / "activations.json"));
    std::map<std::string, Tensor> arrays;
    {
      const auto file = open_safetensors(dir / "activations.safetensors");
      for (const auto& [name, info] : file->tensors()) arrays[name] = file->read(name, info.dtype);
    }
    edit_json(json);
    edit_arrays(arrays);
    put(dir / "activations.json", json.dump());
    write_safetensors(dir / "activations.safetensors", arrays);
    expect_error(code, what, [&] { read_study(dir); });
  };
  const auto same_json = [](nlohmann::json&) {};
  const auto same_arrays = [](std::map<std::string, Tensor>&) {};
  using Arrays = std::map<std::string, Tensor>;
  damaged(Exit::data, "layer 0 counts", same_json, [](Arrays& a) { ++a["o.rest.counts"].data<std::int64_t>()[3]; });
  damaged(Exit::data, "negative", same_json, [](Arrays& a) {
    a["o.first.counts"].data<std::int64_t>()[3] += 5;
    a["o.first.counts"].data<std::int64_t>()[4] = -5;
  });
  damaged(Exit::data, "no tensor", same_json, [](Arrays& a) { a.erase("down.rest.moments"); });
  damaged(Exit::data, "expected", same_json,
          [](Arrays& a) { a["down.rest.moments"] = Tensor::zeros(DType::f64, {3}); });
  damaged(
      Exit::data, "tokens", [](nlohmann::json& j) { j["tokens"] = 1; }, same_arrays);
  damaged(
      Exit::data, "tokens", [](nlohmann::json& j) { j["tokens"] = 15; }, same_arrays);
  damaged(
      Exit::data, "bins", [](nlohmann::json& j) { j["bins"] = std::int64_t{1} << 40; }, same_arrays);
  damaged(
      Exit::data, "range", [](nlohmann::json& j) { j["range"] = -1.0; }, same_arrays);
  damaged(
      Exit::data, "side", [](nlohmann::json& j) { j["side"] = "top"; }, same_arrays);
  damaged(
      Exit::data, "not a 'ptq", [](nlohmann::json& j) { j.erase("format"); }, same_arrays);
  damaged(
      Exit::data, "calibration", [](nlohmann::json& j) { j["calibration"] = 3; }, same_arrays);
  damaged(
      Exit::data, "channels", [](nlohmann::json& j) { j["channels"]["o"] = "many"; }, same_arrays);
  expect_error(Exit::missing, "activations.json", [&] { read_study(tmp / "none"); });
}

// Two layers with known counts: 1000 elements evenly over ten bins of [-1, 1).
TEST(ActivationSummary, CentralWidthIsThatOfTheCounts) {
  ActivationSums s = ActivationSums::none(2, 1, 10);
  for (int l = 0; l < 2; ++l) {
    for (int b = 1; b <= 10; ++b) s.counts.data<std::int64_t>()[l * 12 + b] = 100;
  }
  EXPECT_NEAR(central_width(s, 1.0).value(), 1.98, 1e-12);
  EXPECT_NEAR(central_width(s, 1.0, 0.5).value(), 1.0, 1e-12);
  EXPECT_EQ(share_outside(s), 0.0);
  s.counts.data<std::int64_t>()[0] = 5;  // 5 of 2005 lie below: less than the tail of 10.025
  EXPECT_NEAR(central_width(s, 1.0).value(), 2.0 - 0.2 * (10.025 - 5) / 200 - 0.2 * 10.025 / 200, 1e-12);
  s.counts.data<std::int64_t>()[23] = 50;
  EXPECT_FALSE(central_width(s, 1.0).has_value());
  s.wide.data<std::int64_t>()[6] = s.wide.data<std::int64_t>()[7] = 1000;  // bins 5 and 6 of [-64, 64)
  EXPECT_NEAR(central_width(s, 1.0).value(), 2 * 12.8 * 0.99, 1e-12);
  EXPECT_NEAR(share_outside(s), 55.0 / 2055.0, 1e-15);
  // Everything in the two middle bins; empty bins on the way count nothing.
  ActivationSums narrow = ActivationSums::none(1, 1, 10);
  narrow.counts.data<std::int64_t>()[5] = narrow.counts.data<std::int64_t>()[6] = 500;
  EXPECT_NEAR(central_width(narrow, 1.0).value(), 0.4 * 0.99, 1e-12);
}

TEST(ActivationSummary, TopChannelsAndOverlap) {
  std::vector<double> values(250, 0.5);
  values[7] = -3.0;
  values[200] = 2.0;
  values[3] = NAN;
  EXPECT_EQ(top_channels(values), (std::vector<std::int64_t>{7, 200, 0}));
  EXPECT_EQ(top_channels(std::vector<double>{1.0, -2.0}), (std::vector<std::int64_t>{1}));
  const std::vector<std::int64_t> a{1, 2, 3}, b{3, 4, 1}, none;
  EXPECT_EQ(jaccard(a, b), 0.5);
  EXPECT_EQ(jaccard(a, a), 1.0);
  EXPECT_EQ(jaccard(a, none), 0.0);
}

}  // namespace
}  // namespace ptq::testing
