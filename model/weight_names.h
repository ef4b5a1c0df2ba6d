// The tensor-name table of every family (spec models.md section 2). Names are Hugging Face's, with the leading
// "model.".
#pragma once

#include "model/weights.h"

#include <map>
#include <string>

namespace ptq {

struct GlobalNames {
  std::string embedding, positions, project_in, project_out, final_norm, head;  // modules; "" if there is none
};

GlobalNames global_names(const ModelConfig& config);

// Module paths: "model.layers.3.self_attn.q_proj". norm_module is "" where a family has no such norm.
std::string linear_module(const ModelConfig& config, int layer, LinearRole role);
std::string norm_module(const ModelConfig& config, int layer, NormRole role);
WeightRef linear_weight_ref(const ModelConfig& config, int layer, LinearRole role);

bool has_bias(const ModelConfig& config, LinearRole role);
Shape linear_shape(const ModelConfig& config, LinearRole role);  // [N, I]
Shape norm_shape(const ModelConfig& config, NormRole role);

// Every tensor that the model needs, with its exact shape.
std::map<std::string, Shape> expected_tensors(const ModelConfig& config);

}  // namespace ptq
