// Outlier channels that change no function: a channel's values are multiplied by S where they are made and the weights
// that read them divided by S. Quantized activations then suffer as they do from a real outlier, while the model's
// predictions stay what they were (miniature models: a causal test of the paper's claim, spec G.3).
//
//   norm    gain (and bias) of the norms before attention and MLP; columns of the linears that read them
//   vo      rows of v; columns of o, for all query heads that read the value channel
//   updown  rows of up (fc1); columns of down (fc2), where the activation between them passes a factor through
//
// With an offset C the norms' biases get C at their channels and the linears' biases lose C times the column: an
// outlier of constant sign whose columns keep their size.
#pragma once

#include "model/block_weights.h"
#include "model/transformer.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

enum class InjectPlace : std::uint8_t { norm, vo, updown };

std::string_view name_of(InjectPlace place);

struct InjectSpec {
  std::vector<InjectPlace> places;  // several: those that a family does not have are skipped
  std::int64_t channels = 2;        // of each place
  float scale = 32.0f;              // S > 0; powers of two change no bit of an fp32 model
  float offset = 0.0f;              // C; norm only
  std::uint64_t seed = 0;
  int first_layer = 0, last_layer = -1;  // inclusive; -1: the last one
};

// "norm", "vo", "updown" or "all". Exit 2 otherwise.
std::vector<InjectPlace> parse_places(std::string_view text);

struct InjectedChannels {
  InjectPlace place;
  std::vector<std::int64_t> channels;  // ascending; of the norm, of v's output, of up's output
};

struct InjectPlan {
  InjectSpec spec;
  std::vector<std::vector<InjectedChannels>> layers;         // by layer, empty outside first..last
  std::vector<std::pair<InjectPlace, std::string>> skipped;  // and why
};

// Draws the channels: the norms' once for the model, because a channel of the residual stream is the same in all
// layers; those of vo and updown for every layer. A layer's draw does not depend on which places and layers were asked
// for. Exit 2 if an only place does not exist in the family (with the reason), more channels are asked for than there
// are, or scale, offset or layers make no sense.
InjectPlan plan_injection(const ModelConfig& config, const InjectSpec& spec);

// The columns of a stage's linears that read injected channels, ascending.
std::vector<std::int64_t> injected_columns(const ModelConfig& config, const InjectPlan& plan, int layer, Stage stage);

// Changes one block.
void inject(BlockWeights& block, const ModelConfig& config, const InjectPlan& plan, int layer);

}  // namespace ptq
