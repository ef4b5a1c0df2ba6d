// One weight matrix and its inputs in, its quantization out: for study, and for comparing implementations without a
// model around them.
#pragma once

#include "quant/hessian.h"
#include "quant/quantized_matrix.h"

#include <filesystem>
#include <string>

namespace ptq {

struct MatrixReport {
  std::int64_t rows = 0, columns = 0;
  double error = 0.0;           // sum of err_rows
  double relative_error = 0.0;  // ||Q - W||^2 / ||W||^2
  HessianFactor factor;         // GPTQ: dead columns, damping, retries; empty otherwise
  double best_ratio = 0.0;      // AWQ
};

// Reads the safetensors file `input`: W [N,K]; for GPTQ, X [S,T,K] (or [T,K]: one sequence) or H [K,K] (undamped,
// normalised per sequence; H wins if both are there, except that per-token normalisation needs X); for AWQ and
// SmoothQuant, X. Other tensors are ignored. Writes `output`: Q [N,K] f32, codes [N,K], scales [N,G] f32 ([blocks,1]
// for NF4), err_rows [N] f32, and where the method has them zeros [N,G] f32, g_idx [K] i32, perm [K] i32 (act-order), t
// [K] f32 (codes are those of W diag(t), Q is divided by t again), loss [20] f64 (AWQ, by ratio); the parameters and
// the sums are in the file's metadata.
// Exit 2 wrong parameters, 65 missing tensor or wrong shape, 66 no such file, 76 non-finite values or singular H.
MatrixReport quantize_matrix(Ops& ops, const std::filesystem::path& input, const QuantSpec& spec,
                             const std::filesystem::path& output);

}  // namespace ptq
