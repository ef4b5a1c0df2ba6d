// Reads the rotary embedding's parameters: rope_parameters (transformers 5), rope_theta + rope_scaling (before), with
// `rope_type` or `type`.
#pragma once

#include "model/families.h"
#include "model/json_fields.h"

namespace ptq {

// head_dim and max_position of `config` must be set. Fills rope, and local_rope where the family has one.
void read_rope(const JsonFields& json, const Family& family, ModelConfig& config);

}  // namespace ptq
