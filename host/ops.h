// Ops: the vocabulary of the program. The transformer, the quantizers and the evaluation are written once against
// this interface; a backend (host/cpu, cuda) implements it.
//
// Letters: T tokens, D model width, F feed-forward width, H query heads, K key/value heads, C head size,
// V vocabulary, N output rows of a linear, I input columns of a linear, G groups per row, R rows.
//
// Contracts of every method
//  * Tensors are row-major and live where the backend keeps them (to_device / to_host move them).
//  * Outputs come first, are allocated by the caller and must not overlap inputs unless the comment says so.
//  * Activations are f32, bf16 or f16 ("compute dtype"); arithmetic is fp32 or better, rounded once at the output.
//  * The result of a row (token) depends on that row and its segment only, never on what else is in the batch,
//    nor on the number of threads: same inputs, same bits.
//  * Gains and biases (w, b of norm, b of linear) are f32 whatever the compute dtype; tables (embed, add_rows) are of
//    the dtype of y.
//  * Wrong shapes or dtypes are internal errors (exit 70): the layers above have validated their input. A row that a
//    table does not have is found at the latest by synchronize or to_host.
//  * Work is ordered as called. A backend may run asynchronously; to_host and synchronize wait.
#pragma once

#include "host/grid.h"
#include "host/tensor.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ptq {

// Sequences lie end to end in one token array. Segment s covers tokens [begin, end); token i of it attends to
// tokens begin..i and, if prefix >= 0, to the whole of segment `prefix`, which comes earlier and has no prefix
// itself. Positions continue after the prefix.
struct Segment {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t prefix = -1;
};

enum class NormKind : std::uint8_t { layer, rms };

// layer: (x - mean) * rsqrt(var + eps) * w + b      rms: x * rsqrt(mean(x^2) + eps) * w
struct NormSpec {
  NormKind kind = NormKind::rms;
  float epsilon = 1e-5f;
  bool one_plus_weight = false;      // Gemma: gain is 1 + w
  bool round_before_weight = false;  // Llama: x * rsqrt(..) is rounded to the compute dtype before the gain
};

enum class Activation : std::uint8_t { relu, silu, gelu_tanh, gelu_erf };
enum class RopeStyle : std::uint8_t { half_split, interleaved };

struct AttentionSpec {
  int heads = 0;            // H
  int kv_heads = 0;         // K; query head h reads key/value head h / (H / K)
  int head_dim = 0;         // C
  float scale = 0.0f;       // scores are multiplied by it
  float soft_cap = 0.0f;    // > 0: scores = cap * tanh(scores / cap), before the mask
  std::int32_t window = 0;  // > 0: token i sees tokens j with i - window < j <= i
};

// The head's output transformation: logits = cap(scale * x W^T).
struct LogitSpec {
  float scale = 1.0f;
  float soft_cap = 0.0f;
};

// How the weight of a linear is stored and multiplied.
enum class WeightFormat : std::uint8_t {
  f32,
  bf16,  // bf16 x bf16 products, fp32 accumulation
  f16,   // stored as f16, multiplied in fp32
  s8,    // int8 codes with a scale per output row; takes int8 activations (Int8Rows)
  u4,    // unsigned codes with group scales and zeros (CodedWeight), two a byte; values are formed when multiplied
  u8,    // the same, one a byte
};

// A linear's weight in the backend's own layout. Its values never change; freed by its destructor.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::int64_t out_features() const = 0;  // N
  virtual std::int64_t in_features() const = 0;   // I
  virtual WeightFormat format() const = 0;
  virtual std::size_t bytes() const = 0;
};
using WeightPtr = std::shared_ptr<const Weight>;

// Weights of blocks that do not all fit on the device: a block is copied there while the one before it computes, so
// that at most two are there at a time.
class WeightStream {
 public:
  virtual ~WeightStream() = default;
  // The weights of the next block, of this backend; their data moves to host memory (exit 75 if there is too little).
  virtual void add(std::span<const WeightPtr> weights) = 0;
  // From now on operations may use the weights of this block and not those of others; the next one, or after the last
  // the first, is on its way. After all have been added.
  virtual void enter(int block) = 0;
};

// A weight as packed checkpoints hold it: w[n,i] = scales[n,g] * (codes[n,i] - zeros[n,g]), g = g_idx[i]. On the host.
struct CodedWeight {
  int bits = 4;          // 2..8: codes and zeros are below 2^bits
  Tensor codes;          // [N, I] u8
  Tensor scales, zeros;  // [N, G] f32
  Tensor g_idx;          // [I] i32, values in 0..G-1
};

// Rows quantized to symmetric integers of at most 8 bits: x ~= codes * scale (+ outliers), SmoothQuant's absmax rule.
struct Int8Rows {
  Tensor codes;   // [T, I] i8
  Tensor scales;  // [T] f32
  // LLM.int8(): columns that stay in floating point; their codes are 0. Empty if there are none.
  Tensor outliers;         // [T, C] f32, 0 where a row keeps the column as a code
  Tensor outlier_columns;  // [C] i32, ascending
};

// Per-channel sums over tokens that can be merged: everything that statistics of activations need.
struct ChannelSums {
  Tensor moments;   // [5, I] f64: sum of x, |x|, x^2, x^3, x^4
  Tensor extremes;  // [2, I] f32: smallest and largest x; start with +inf and -inf
};

// A code book for round_to_book: ascending values in [-1, 1]; a value on the midpoint of two takes the lower one.
using CodeBook = std::span<const float>;

// One token's score: log softmax(logits of row `row`)[target].
struct Target {
  std::int32_t row;
  std::int32_t token;
};

// GPTQ column sweep (spec A.5), all columns already in processing order.
struct SweepSpec {
  GridSpec grid;
  std::int64_t group = -1;  // columns per group; -1: one grid per row, taken from W before the sweep
  int block = 128;          // lazy update block; visible in results when group != block (spec A.5)
};

struct GroupedCodes {
  Tensor codes;   // [N, I] u8
  Tensor scales;  // [N, G] f32
  Tensor zeros;   // [N, G] f32
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual std::string description() const = 0;  // "cpu: oneDNN 2.6.3, avx512_core_amx, 2 threads"

  // --- memory ------------------------------------------------------------------------------------------------
  virtual Tensor empty(DType dtype, Shape shape) = 0;
  virtual Tensor to_device(const Tensor& host) = 0;  // may alias on the CPU
  virtual Tensor to_host(const Tensor& device) = 0;  // may alias on the CPU
  virtual void synchronize() = 0;

  // --- measuring ---------------------------------------------------------------------------------------------
  // Seconds that the device spends on the operations that `work` calls.
  virtual double seconds(const std::function<void()>& work) = 0;
  virtual void evict_caches() = 0;  // what is read next comes from memory

  // Names the operations from here to the matching end_range, for a profiler; ranges nest (host/range.h).
  virtual void begin_range(const char*) {}
  virtual void end_range() {}

  // --- elementwise and row-wise: memory bound ----------------------------------------------------------------
  // y[t] = table[ids[t]] * scale.   y [T,D], ids [T] i32 (0 <= id < V), table [V,D]
  virtual void embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) = 0;

  // x[t] += table[index[t]].        x [T,D], index [T] i32, table [P,D]
  virtual void add_rows(const Tensor& x, const Tensor& index, const Tensor& table) = 0;

  // y[r] = norm(x[r]).              x, y [R,D] (may be the same); w, b [Q,D]: row r uses gain r % Q (Q = 1, or one
  // gain per head); b may be empty. 7 R D flops.
  virtual void norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) = 0;

  // Rotates each head of x in place. x [T, heads*C], cos and sin [T, P] f32 with 2P <= C: the first 2P dimensions
  // of a head turn, the rest stays. half_split pairs (i, i+P), interleaved pairs (2i, 2i+1).
  virtual void rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) = 0;

  // y = act(gate) * up, or act(gate) when up is empty. [T,F], y may be gate.
  virtual void activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) = 0;

  virtual void add(const Tensor& x, const Tensor& y) = 0;  // x += y

  // y[r] = x[rows[r]].              y [R,D], rows [R] i32
  virtual void gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) = 0;

  // Number of elements that are NaN or infinite.
  virtual std::int64_t count_nonfinite(const Tensor& x) = 0;

  // --- products: compute bound -------------------------------------------------------------------------------
  // Lays out W [N,I] (f32/bf16/f16, on the host or the device) for linear(). For s8: per-row absmax/127 codes are
  // computed here.
  virtual WeightPtr pack(const Tensor& w, WeightFormat format) = 0;

  // y = x W^T + b.                  y [T,N], x [T,I], b [N] f32 or empty. 2 T N I flops.
  virtual void linear(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) = 0;

  // Lays out integer codes for linear() and linear_few(): values scale * (code - zero) are formed in fp32 and rounded
  // to `compute` (f32, bf16, f16), so that results equal those of pack() of the dequantized weight; memory stays that
  // of the codes.
  virtual WeightPtr pack_codes(const CodedWeight& w, DType compute) = 0;

  // Lays out int8 codes [N,I] i8 with a scale per row, scales [N] f32, for linear_s8 (both on the host).
  virtual WeightPtr pack_s8(const Tensor& codes, const Tensor& scales) = 0;

  // linear() for decoding, of at most 16 rows: bound by reading the weight once, in an order of summation of its own,
  // so that it differs from linear() by rounding. A row's result does not depend on the other rows. y may also be f32
  // (logits). Not for s8.
  virtual void linear_few(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) = 0;

  // absmax[t] = max_i |x[t,i]|.     absmax [T] f32, x [T,I]
  virtual void row_absmax(const Tensor& absmax, const Tensor& x) = 0;

  // Symmetric integers (spec C.4).  x [T,I] -> codes, scales = max(absmax, 1e-5) / (2^(bits-1) - 1). absmax [T] f32
  // (per tensor, static; codes beyond the range are clamped) or empty: each row's own.
  virtual Int8Rows quantize_rows(const Tensor& x, int bits = 8, const Tensor& absmax = {}) = 0;

  // y = the values of quantize_rows: fake quantization. y [T,I] may be x.
  virtual void fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax = {}) = 0;

  // y = diag(x.scales) (codes_x codes_w^T) diag(w.scales) + x.outliers (codes_w diag(w.scales))[:, columns]^T + b, s8 x
  // s8 -> s32 exactly.
  virtual void linear_s8(const Tensor& y, const Int8Rows& x, const Weight& w, const Tensor& b) = 0;

  // o = softmax(mask(cap(scale * q k^T))) v per head and segment, online softmax, nothing of size T x T is stored.
  // o, q [R, H*C], k, v [T, K*C]. R = T, or less when decoding with a KV cache: row r is then token T - R + r, and its
  // result is the same bits as with all rows.
  virtual void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                         std::span<const Segment> segments, const AttentionSpec& spec) = 0;

  // y = logits of every row.        y [R,V] f32, x [R,D]
  virtual void logits(const Tensor& y, const Tensor& x, const Weight& w, const LogitSpec& spec) = 0;

  // log p(target) for every (row, token), natural logarithm; logits of a row exist only a panel at a time.
  // x [R,D]; targets sorted by row or not; the result has one double per target.
  virtual std::vector<double> token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w,
                                             const LogitSpec& spec) = 0;

  // --- statistics: memory bound, sums in f64 in row order ------------------------------------------------------
  // Adds the rows of x [T,I] to the sums of its columns.
  virtual void channel_sums(const ChannelSums& sums, const Tensor& x) = 0;

  // counts[0] += elements < lo, counts[b+1] += elements of the b-th of B equal bins of [lo, hi), counts[B+1] +=
  // elements
  // >= hi; exact. NaN counts nowhere. counts [B+2] i64, edge b = lo + (hi - lo) * b / B in f64.
  virtual void histogram(const Tensor& counts, const Tensor& x, double lo, double hi) = 0;

  // sum (a - b)^2 over all elements.
  virtual double squared_difference(const Tensor& a, const Tensor& b) = 0;

  // --- quantization ------------------------------------------------------------------------------------------
  // H += X^T X (upper triangle valid).   H [I,I] f32, X [T,I] compute dtype. T I^2 flops (symmetric).
  virtual void gram(const Tensor& h, const Tensor& x) = 0;

  // The upper factor U of H^-1 (H^-1 = U^T U) from the upper triangle of the damped H, which is overwritten by U
  // (the strict lower triangle becomes 0). One Cholesky of the index-reversed matrix and one triangular inverse;
  // H^-1 is never formed. Returns false if H is not positive definite in the given precision; H is then destroyed.
  // H [I,I] f32, or f64 for the retry.
  virtual bool factor_inverse(const Tensor& h) = 0;

  // The grids of W without rounding it: scales, zeros [N,G], one per `group` columns (-1: whole row).
  virtual void group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, const GridSpec& grid,
                           std::int64_t group) = 0;

  // Rounds W [N,I] f32 in place to the given grids; g_idx [I] i32 names each column's group. codes [N,I] u8. Only
  // grid.levels() is used of `grid`.
  virtual void round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros,
                              const Tensor& g_idx, const GridSpec& grid) = 0;

  // GPTQ (spec A.5): W [N,I] f32 in processing order is replaced by its quantized values, errors fed forward through
  // U [I,I]. With fixed_grids (static groups, or g = -1) `out.scales/zeros` are inputs and g_idx [I] i32 names each
  // column's group; otherwise group parameters come from the error-updated W at each group start and are written.
  // row_error [N] f64: sum over columns of (w - q)^2 / U_jj^2 / 2.
  virtual void gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                          const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) = 0;

  // AWQ (spec B.3): out = Q(W diag(t)) diag(t)^-1 with one grid per `group` columns (-1: whole row). out, W [N,I] f32,
  // t [I] f32 > 0. out may be W.
  virtual void round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, const GridSpec& grid,
                            std::int64_t group) = 0;

  // tr(D G D^T) = sum of (x d_n)^2 over the tokens whose Gram matrix G = X^T X is (upper triangle read) and the rows of
  // D: the squared error of a linear alone (spec B.3, exact). D [N,I], G [I,I] f32. 2 N I^2 flops.
  virtual double gram_loss(const Tensor& d, const Tensor& g) = 0;

  // AWQ clip search (spec B.6): clip[n,g] = the c of absmax (1 - i/20), i = 0..9, whose clamped and quantized weights
  // change the group's partial products with the tokens X least; the first of equals. clip [N,G] f32, W [N,I], X [S,I]
  // f32, I a multiple of group. 20 S N I flops, or the same sums through per-group Gram matrices.
  virtual void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                           std::int64_t group) = 0;

  // Rows of W [R,B] f32 to a code book (NF4, spec D.3): absmax[r] = max |w|, codes = nearest book value of w / absmax.
  // codes [R,B] u8, absmax [R] f32. A zero row gets the code of 0.
  virtual void round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) = 0;

  // y = x with each run of `block` columns of a row rounded to the code book (the last run may be shorter). y may be x.
  virtual void fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) = 0;

  // --- weights that do not fit on the device -------------------------------------------------------------------
  // Bytes that weights and activations may still take together; none where weights are used where they lie: the CPU.
  virtual std::optional<std::size_t> memory_left() const = 0;
  virtual std::unique_ptr<WeightStream> stream_weights() = 0;  // refers to this object
};

// The CPU backend. threads = 0: all cores.
std::unique_ptr<Ops> make_cpu_ops(int threads = 0);

struct GpuOptions {
  int device = 0;          // its number
  std::size_t memory = 0;  // most bytes of its memory; 0: what is free
  std::string step;        // a rung of the teaching ladder in place of the production kernel, one of ladder_steps()
  bool vendor = false;     // NVIDIA's libraries in place of own kernels, to measure against (cuda/vendor); cuda only
};

// The kernels of cuda/ on a GPU. Exit 69 if it cannot be had. Only in builds with CUDA.
std::unique_ptr<Ops> make_cuda_ops(const GpuOptions& options = {});
std::vector<std::string> cuda_devices();  // a line each; empty if there are none

// The same kernels on the SIMT executor, the blocks of a grid distributed over `threads`.
std::unique_ptr<Ops> make_simt_ops(int threads = 1, const GpuOptions& options = {});

std::vector<std::string> ladder_steps();  // "gemm/1-naive", ... (cuda/steps)

}  // namespace ptq
