// What host/ops.h asks of the arguments of its operations: shapes and dtypes, checked by every backend before it
// computes. A violation is a bug of the layers above (exit 70). Values of indices are checked where they can be read.
#pragma once

#include "host/ops.h"

namespace ptq::op_checks {

// Layers
void embed(const Tensor& y, const Tensor& ids, const Tensor& table);
void add_rows(const Tensor& x, const Tensor& index, const Tensor& table);
void gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows);
void norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b);
void rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads);
void activate(const Tensor& y, const Tensor& gate, const Tensor& up);
void add(const Tensor& x, const Tensor& y);
void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Segment> segments,
               const AttentionSpec& spec);

// Products. `input`: the dtype of activations that the weight takes.
void linear(const char* op, DType y_type, DType input, const Tensor& y, const Tensor& x, const Weight& w,
            const Tensor& b);
void linear_few(DType input, const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b);
void token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w);
void pack_codes(const CodedWeight& w, DType compute);  // reads codes and groups, which are on the host

// int8
void int8_width(std::int64_t columns);  // beyond it sums of products may overflow
void pack_s8(const Tensor& codes, const Tensor& scales);
void row_absmax(const Tensor& absmax, const Tensor& x);
void quantize_rows(const char* op, const Tensor& x, int bits, const Tensor& absmax);
void fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax);
void linear_s8(const Tensor& y, const Int8Rows& x, const Weight& w, const Tensor& b);

// Statistics
void channel_sums(const ChannelSums& sums, const Tensor& x);
void histogram(const Tensor& counts, double lo, double hi);
void squared_difference(const Tensor& a, const Tensor& b);

// Quantizers. `g_idx`: on the host.
void gram(const Tensor& h, const Tensor& x);
void gram_loss(const Tensor& d, const Tensor& g);
void factor_inverse(const Tensor& h);
void column_groups(const char* op, const Tensor& g_idx, std::int64_t columns, std::int64_t groups);
void group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, std::int64_t group);
void round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros);
void gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                const SweepSpec& spec, bool fixed_grids);
void round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, std::int64_t group);
void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid, std::int64_t group);
void round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book);
void fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block);

}  // namespace ptq::op_checks
