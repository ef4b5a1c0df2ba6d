// Outlier injection of whole checkpoint directories.
#pragma once

#include "host/ops.h"
#include "quant/inject.h"
#include "quant/walk.h"

#include <filesystem>
#include <optional>

namespace ptq {

struct InjectJob {
  std::filesystem::path model;   // checkpoint directory
  std::filesystem::path output;  // see OutputDirectory
  bool force = false;
  InjectSpec spec;
  std::optional<DType> dtype;  // stored type; empty: the source's
};

struct InjectReport {
  InjectPlan plan;
  DType dtype = DType::f32;  // that linears are stored in
  // Every change is a power of two and survived storage, so that the model computes the same bits in fp32.
  bool exact = false;
  double largest_storage_error = 0.0;  // of a linear: ||stored - w||^2 / ||w||^2
};

// Writes `output`: a checkpoint as the source's with injected outliers, and ptq.json: method "inject-outliers", the
// parameters, the channels of every layer, what was skipped, and the source's digests. Exit 65 if the source is packed
// or quantizes activations; errors of plan_injection, CheckpointWriter and OutputDirectory.
InjectReport inject_checkpoint(Ops& ops, const InjectJob& job, const ProgressFn& progress = {});

}  // namespace ptq
