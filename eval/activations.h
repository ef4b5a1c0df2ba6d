// Activation studies (spec G.4): what comes out of (or goes into) the attention output projection and the last linear
// of the MLP in every layer of the unquantized model. Stored are sums, extremes and counts, so that studies of parts of
// a set can be merged; means, kurtosis, widths and top channels follow from them (activation_summary.h).
//
// The first token of a window attracts activations of its own ("massive activations"), so position 0 and the rest are
// summed apart: first + rest is everything, rest alone is the study without it.
#pragma once

#include "quant/walk.h"

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace ptq {

enum class ActivationSide : std::uint8_t { output, input };

struct ActivationSpec {
  ActivationSide side = ActivationSide::output;
  std::int64_t bins = 400;  // histogram of [-range, range)
  double range = 1.0;
  std::int64_t chunk_tokens = 4096;  // tokens that go through together: memory and speed only
};

inline constexpr double wide_factor = 64.0;
inline constexpr std::array studied_roles{LinearRole::o, LinearRole::down};

// One module type, all layers. Host tensors. L layers, C channels, B bins.
struct ActivationSums {
  Tensor moments;   // [L, 5, C] f64: sums of x, |x|, x^2, x^3, x^4
  Tensor extremes;  // [L, 2, C] f32: smallest and largest x
  Tensor counts;    // [L, B + 2] i64: below -range, the bins, range and above
  Tensor wide;      // [L, B + 2] i64: the same of [-R, R), R = wide_factor * range, for widths beyond the histogram

  static ActivationSums none(std::int64_t layers, std::int64_t channels, std::int64_t bins);
  void add(const ActivationSums& other);
  std::int64_t channels() const { return extremes.cols(); }
};

struct ModuleActivations {
  ActivationSums first, rest;  // position 0 of every window; all others

  ActivationSums whole() const;
};

struct ActivationStudy {
  ActivationSpec spec;
  int layers = 0;
  std::int64_t windows = 0, tokens = 0;  // windows: tokens at position 0
  std::array<ModuleActivations, studied_roles.size()> modules;

  // Adds the windows of another study: integers and extremes become those of one study of all windows, sums too up to
  // the rounding of f64 additions. Exit 65 if sizes, side, bins or range differ.
  void merge(const ActivationStudy& other);
};

// Runs the windows block by block; one block and the streams are in memory. Exit 2 if bins or range make no sense;
// errors of full_precision_walk, 76 naming layer and module if an activation is not finite.
ActivationStudy study_activations(const Transformer& model, std::span<const Window> windows, const ActivationSpec& spec,
                                  Seconds& seconds, const ProgressFn& progress = {});

std::string_view name_of(ActivationSide side);     // "output", "input"
ActivationSide parse_side(std::string_view text);  // exit 2
std::string_view study_name(LinearRole role);      // "o", "down"
constexpr std::int64_t max_histogram_bins = 1 << 20;

}  // namespace ptq
