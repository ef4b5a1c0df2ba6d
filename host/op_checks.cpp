#include "host/op_checks.h"

#include <cmath>
#include <limits>

namespace ptq::op_checks {

namespace {

std::string shape(const Tensor& t) { return to_string(t.shape()); }
std::string form(const Tensor& t) { return fmt::format("{} {}", name_of(t.dtype()), to_string(t.shape())); }

void same_rows(const char* op, const Tensor& y, const Tensor& x) {
  check(y.dtype() == x.dtype() && y.cols() == x.cols(), "{}: {} and {}", op, form(y), form(x));
}

void indices(const char* op, const Tensor& index, const Tensor& rows) {
  check(index.dtype() == DType::i32 && index.numel() == rows.rows(), "{}: indices {} for {} rows", op, form(index),
        rows.rows());
}

void grids(const char* op, const Tensor& scales, const Tensor& zeros, std::int64_t rows, std::int64_t groups) {
  check(scales.dtype() == DType::f32 && zeros.dtype() == DType::f32 && scales.shape() == zeros.shape() &&
            scales.shape() == Shape{rows, groups},
        "{}: scales {}, zeros {} for {} rows, {} groups", op, form(scales), form(zeros), rows, groups);
}

void book_size(CodeBook book) { check(!book.empty() && book.size() <= 256, "code book of {} values", book.size()); }

}  // namespace

void embed(const Tensor& y, const Tensor& ids, const Tensor& table) {
  same_rows("embed", y, table);
  indices("embed", ids, y);
}

void add_rows(const Tensor& x, const Tensor& index, const Tensor& table) {
  same_rows("add_rows", x, table);
  indices("add_rows", index, x);
}

void gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) {
  same_rows("gather_rows", y, x);
  indices("gather_rows", rows, y);
}

void norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b) {
  same_rows("norm", y, x);
  check(y.rows() == x.rows() && w.cols() == x.cols(), "norm: x {}, y {}, gain {}", shape(x), shape(y), shape(w));
  check(!b || b.shape() == w.shape(), "norm: bias {} for weight {}", shape(b), shape(w));
}

void rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads) {
  check(heads > 0 && x.cols() % heads == 0 && 2 * cos.cols() <= x.cols() / heads && cos.rows() == x.rows() &&
            sin.shape() == cos.shape(),
        "rope: x {}, {} heads, cos {}, sin {}", shape(x), heads, shape(cos), shape(sin));
}

void activate(const Tensor& y, const Tensor& gate, const Tensor& up) {
  check(y.dtype() == gate.dtype() && y.shape() == gate.shape(), "activate: y {}, gate {}", form(y), form(gate));
  check(!up || (up.dtype() == gate.dtype() && up.shape() == gate.shape()), "activate: gate {}, up {}", form(gate),
        form(up));
}

void add(const Tensor& x, const Tensor& y) {
  check(x.dtype() == y.dtype() && x.numel() == y.numel(), "add: {} and {}", form(x), form(y));
}

void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Segment> segments,
               const AttentionSpec& a) {
  check(a.scale > 0.0f && a.heads > 0 && a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.head_dim > 0,
        "attention: scale {}, {} heads, {} kv, {}", a.scale, a.heads, a.kv_heads, a.head_dim);
  const std::int64_t tokens = k.rows();
  check(q.cols() == std::int64_t{a.heads} * a.head_dim && o.shape() == q.shape() &&
            k.cols() == std::int64_t{a.kv_heads} * a.head_dim && v.shape() == k.shape() && q.rows() <= tokens &&
            tokens <= std::numeric_limits<std::int32_t>::max(),
        "attention: o {}, q {}, k {}, v {}", shape(o), shape(q), shape(k), shape(v));
  check(o.dtype() == q.dtype() && k.dtype() == q.dtype() && v.dtype() == q.dtype(), "attention: o {}, q {}, k {}, v {}",
        form(o), form(q), form(k), form(v));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    check(0 <= s.begin && s.begin <= s.end && s.end <= tokens && s.prefix < static_cast<std::int64_t>(i) &&
              (s.prefix < 0 || segments[static_cast<std::size_t>(s.prefix)].prefix < 0),
          "attention: segment {} [{}, {}) with prefix {}", i, s.begin, s.end, s.prefix);
  }
}

void linear(const char* op, DType y_type, DType input, const Tensor& y, const Tensor& x, const Weight& w,
            const Tensor& b) {
  const std::int64_t n = w.out_features();
  check(w.format() != WeightFormat::s8, "{}: int8 weights are for linear_s8", op);
  check(x.dtype() == input && x.cols() == w.in_features(), "{}: x {} for a weight of {} columns for {}", op, form(x),
        w.in_features(), name_of(input));
  check(y.dtype() == y_type && y.cols() == n && y.rows() == x.rows(), "{}: y {} for x {} and N = {}", op, form(y),
        form(x), n);
  check(!b || b.numel() == n, "{}: bias {} for N = {}", op, shape(b), n);
}

void linear_few(DType input, const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) {
  linear("linear_few", y.dtype() == DType::f32 ? DType::f32 : input, input, y, x, w, b);
  check(x.rows() <= 16, "linear_few: {} rows", x.rows());
}

void token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w) {
  check(x.cols() == w.in_features(), "token_logprobs: x {} for a weight of {} columns", shape(x), w.in_features());
  for (const Target& t : targets) {
    check(0 <= t.row && t.row < x.rows() && 0 <= t.token && t.token < w.out_features(),
          "token_logprobs: row {} of {}, token {} of {}", t.row, x.rows(), t.token, w.out_features());
  }
}

void pack_codes(const CodedWeight& w, DType compute) {
  const std::int64_t n = w.codes.rows(), i = w.codes.cols(), groups = w.scales.cols();
  check(2 <= w.bits && w.bits <= 8, "pack_codes: {} bits", w.bits);
  check(compute == DType::f32 || compute == DType::bf16 || compute == DType::f16, "pack_codes: {} activations",
        name_of(compute));
  check(n > 0 && i > 0 && groups > 0 && w.codes.rank() == 2 && w.scales.shape() == Shape{n, groups} &&
            w.zeros.shape() == w.scales.shape(),
        "pack_codes: codes {}, scales {}, zeros {}", shape(w.codes), shape(w.scales), shape(w.zeros));
  column_groups("pack_codes", w.g_idx, i, groups);
  unsigned all = 0;
  for (std::uint8_t code : w.codes.span<std::uint8_t>()) all |= code;
  check(all >> w.bits == 0, "pack_codes: codes of more than {} bits", w.bits);
}

void int8_width(std::int64_t columns) {
  constexpr std::int64_t most = 65536;  // 128 * 128 * 65536 < 2^31
  check(columns <= most, "pack: {} int8 columns may overflow 32-bit sums", columns);
}

void pack_s8(const Tensor& codes, const Tensor& scales) {
  check(codes.rank() == 2 && scales.numel() == codes.rows(), "pack_s8: codes {}, scales {}", shape(codes),
        shape(scales));
  int8_width(codes.cols());
}

void row_absmax(const Tensor& absmax, const Tensor& x) {
  check(absmax.dtype() == DType::f32 && absmax.numel() == x.rows(), "row_absmax: absmax {} for x {}", form(absmax),
        shape(x));
}

void quantize_rows(const char* op, const Tensor& x, int bits, const Tensor& absmax) {
  check(2 <= bits && bits <= 8, "{}: {} bits", op, bits);
  check(!absmax || (absmax.dtype() == DType::f32 && absmax.numel() == x.rows()), "{}: absmax {} for x {}", op,
        form(absmax), shape(x));
}

void fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax) {
  quantize_rows("fake_quantize_rows", x, bits, absmax);
  check(y.dtype() == x.dtype() && y.cols() == x.cols() && y.rows() == x.rows(), "fake_quantize_rows: y {}, x {}",
        form(y), form(x));
}

void linear_s8(const Tensor& y, const Int8Rows& x, const Weight& w, const Tensor& b) {
  const std::int64_t n = w.out_features(), rows = y.rows();
  check(y.cols() == n && rows == x.codes.rows() && x.scales.numel() == rows && x.codes.cols() == w.in_features(),
        "linear_s8: y {}, codes {}, scales {} for a weight [{},{}]", shape(y), shape(x.codes), shape(x.scales), n,
        w.in_features());
  check(!b || b.numel() == n, "linear_s8: bias {} for N = {}", shape(b), n);
  if (!x.outlier_columns || x.outlier_columns.numel() == 0) return;
  check(x.outliers.dtype() == DType::f32 && x.outliers.rows() == rows && x.outliers.cols() == x.outlier_columns.numel(),
        "linear_s8: outliers {} in columns {} for y {}", form(x.outliers), shape(x.outlier_columns), shape(y));
}

void channel_sums(const ChannelSums& sums, const Tensor& x) {
  check(sums.moments.dtype() == DType::f64 && sums.extremes.dtype() == DType::f32 &&
            sums.moments.shape() == Shape{5, x.cols()} && sums.extremes.shape() == Shape{2, x.cols()},
        "channel_sums: moments {}, extremes {} for X {}", form(sums.moments), form(sums.extremes), shape(x));
}

void histogram(const Tensor& counts, double lo, double hi) {
  const std::int64_t bins = counts.numel() - 2;
  check(counts.dtype() == DType::i64 && bins > 0 && bins < (1 << 30) && lo < hi && std::isfinite(hi - lo),
        "histogram: counts {} of [{}, {})", form(counts), lo, hi);
}

void squared_difference(const Tensor& a, const Tensor& b) {
  check(a.dtype() == b.dtype() && a.numel() == b.numel(), "squared_difference: {} and {}", form(a), form(b));
}

void gram(const Tensor& h, const Tensor& x) {
  check(h.dtype() == DType::f32 && h.shape() == Shape{x.cols(), x.cols()}, "gram: H {} for X {}", form(h), shape(x));
}

void gram_loss(const Tensor& d, const Tensor& g) {
  check(g.shape() == Shape{d.cols(), d.cols()}, "gram_loss: D {}, G {}", shape(d), shape(g));
}

void factor_inverse(const Tensor& h) { check(h.rank() == 2 && h.dim(0) == h.dim(1), "factor_inverse: H {}", shape(h)); }

void column_groups(const char* op, const Tensor& g_idx, std::int64_t columns, std::int64_t groups) {
  check(g_idx.numel() == columns, "{}: g_idx {} for {} columns", op, shape(g_idx), columns);
  for (std::int32_t g : g_idx.span<std::int32_t>()) check(0 <= g && g < groups, "{}: group {} of {}", op, g, groups);
}

void group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, std::int64_t group) {
  check(group != 0, "group_grids: group 0");
  grids("group_grids", scales, zeros, w.rows(), group_count(w.cols(), group));
}

void round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros) {
  grids("round_to_grids", scales, zeros, w.rows(), scales.cols());
  check(codes.shape() == w.shape(), "round_to_grids: codes {} for W {}", shape(codes), shape(w));
}

void gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                const SweepSpec& spec, bool fixed_grids) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  check(spec.block > 0 && (fixed_grids || spec.group != 0), "gptq_sweep: block {}, group {}", spec.block, spec.group);
  grids("gptq_sweep", out.scales, out.zeros, rows, fixed_grids ? out.scales.cols() : group_count(columns, spec.group));
  check(out.codes.shape() == w.shape() && u.rows() == columns && u.cols() == columns && row_error.numel() == rows,
        "gptq_sweep: W {}, codes {}, U {}, row_error {}", shape(w), shape(out.codes), shape(u), shape(row_error));
}

void round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, std::int64_t group) {
  check(out.shape() == w.shape() && t.numel() == w.cols() && group != 0, "round_scaled: W {}, out {}, t {}, group {}",
        shape(w), shape(out), shape(t), group);
}

void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid, std::int64_t group) {
  const std::int64_t columns = w.cols(), width = group < 0 ? columns : group;
  check(width > 0 && columns % width == 0 && x.cols() == columns && clip.shape() == Shape{w.rows(), columns / width},
        "clip_search: W {}, X {}, clip {}, group {}", shape(w), shape(x), shape(clip), group);
  check(!grid.mse, "clip_search: a range is searched once");
}

void round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) {
  check(codes.shape() == w.shape() && absmax.numel() == w.rows(), "round_to_book: W {}, codes {}, absmax {}", shape(w),
        shape(codes), shape(absmax));
  book_size(book);
}

void fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) {
  check(y.dtype() == x.dtype() && y.shape() == x.shape() && block > 0, "fake_round_to_book: {} and {}, block {}",
        form(y), form(x), block);
  book_size(book);
}

}  // namespace ptq::op_checks
