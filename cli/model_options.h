// A model as subcommands take it, and its weights in memory.
#pragma once

#include "cli/options.h"
#include "model/transformer.h"

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace ptq {

struct ModelOptions {
  std::string model;
  std::string products = "exact";
};

void add_model_options(CLI::App& command, ModelOptions& options);

// Opens `directory` and loads everything for what `run` says. `products`: exact or fake (see IntegerProducts). Says so
// on standard error if the weights are streamed.
std::unique_ptr<Transformer> load_model(const std::filesystem::path& directory, const std::string& products, Ops& ops,
                                        DType compute, const RunSize& run);

// One sequence at a time, with the logits of all its tokens.
RunSize one_by_one(std::span<const std::vector<std::int32_t>> sequences);

// {"bits_per_weight" (blocks' linears as they are in memory), "weight_bytes", "device_weight_bytes" (at a time, if they
// are streamed), "peak_memory_bytes"}, and "scheme",
// "scheme_bits_per_weight" if ptq quantized the model: a fake checkpoint takes more memory than its scheme needs.
nlohmann::ordered_json cost_json(const Transformer& model);

// "int8 per token", or the dtype if activations are not quantized.
std::string activations_name(const Transformer& model);

}  // namespace ptq
