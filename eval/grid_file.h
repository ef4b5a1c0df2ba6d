// The TOML form of a grid:
//
//   name = "small"             dtype = "fp32"       baseline = "c4": the set that figures normalise to
//   models = "DIR"             data = "DIR"         where models and data are, from the file's directory; optional
//   [report]                   for reproduce/report.py: margins of tests; ptq passes it on
//   [[metric]]   name; text = "wikitext2" or a file, seqlen, windows; or
//                task = "arc_challenge", "piqa", "winogrande" or a file, limit, bos, max_length
//   [[model]]    name; path; dtype; shape = {layers, width, ffn, heads, kv_heads, head_dim, vocab, positions, gated,
//                tied}: for estimates where the model is not there. A twin has, instead of path, of = NAME and
//                inject = {at, channels, scale, offset, seed or seeds}; several seeds make several, "NAME #SEED"
//   [[method]]   name; method = "full-precision", "remove-dead", "remove-injected" or one of ptq quantize --method with
//                its options: scheme, damp, dead, hessian_norm, on_singular, true_sequential, clip, awq_scaling, alpha,
//                products
//   [[set]]      name; set, or sets = [...]: a list of sets under one name; samples, seqlen, seed or seeds, sampling,
//                format, order or orders. Several seeds or orders make several draws of the set, "NAME #1", "NAME #2" ...
//   [axes]       models, methods, sets, metrics: names, or patterns with * and ?; absent: all. The grid is their product;
//                a method without calibration is one cell a model
//   [[exclude]]  models, methods, sets: cells of the product that are left out; one that names sets leaves cells without
//                calibration alone
//   [[include]]  models, methods, sets, metrics: a product that is added, after the exclusions
//   [[study]]    models, sets, side, bins, range: activation studies
#pragma once

#include "eval/grid.h"

namespace ptq {

// Exit 66 if there is no such file, 65 for anything wrong in it, with FILE:LINE.
Grid read_grid(const std::filesystem::path& file);
Grid parse_grid(std::string_view text, const std::filesystem::path& file);

}  // namespace ptq
