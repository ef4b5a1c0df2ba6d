// Weights of integer codes: their layout on the device and their products.
#include "cuda/backend/coded_weight.h"
#include "cuda/backend/linear.h"
#include "cuda/gemm.h"
#include "host/op_checks.h"

#include <algorithm>
#include <cstring>

namespace ptq::cuda {

namespace {

bool all_f16(const Tensor& t) {
  const std::span<const float> x = t.span<float>();
  return std::all_of(x.begin(), x.end(), [](float v) { return to_float(to_f16(v)) == v; });
}

// The group of each column; those beyond I belong to the group behind the last.
std::vector<std::int32_t> column_groups(const CodedWeight& w) {
  const std::span<const std::int32_t> g = w.g_idx.span<std::int32_t>();
  std::vector<std::int32_t> groups(g.begin(), g.end());
  groups.resize(static_cast<std::size_t>(chunks_of(w.codes.cols()) * chunk_columns),
                static_cast<std::int32_t>(w.scales.cols()));
  return groups;
}

// One group per chunk, or nothing if a chunk has several.
std::vector<std::int32_t> chunk_groups(const std::vector<std::int32_t>& columns) {
  std::vector<std::int32_t> groups;
  for (auto chunk = columns.begin(); chunk != columns.end(); chunk += chunk_columns) {
    if (std::any_of(chunk, chunk + chunk_columns, [&](std::int32_t g) { return g != *chunk; })) return {};
    groups.push_back(*chunk);
  }
  return groups;
}

// [strips][G][8][2] {scale, zero} (coded.h), G with the group of columns beyond I if `padded`.
Tensor grids_of(const CodedWeight& w, std::int64_t group_count, DType type) {
  const std::int64_t n = w.codes.rows(), groups = w.scales.cols(), strips = strips_of(n);
  Tensor grids = Tensor::zeros(DType::f32, {strips, group_count, 8, 2, 2});
  const float *scales = w.scales.data<float>(), *zeros = w.zeros.data<float>();
  float* to = grids.data<float>();
  for (std::int64_t strip = 0; strip < strips; ++strip) {
    for (int tile = 0; tile < 2; ++tile) {
      for (int r = 0; r < 8; ++r) {
        const std::int64_t row = coded_row(strip, tile, r);
        for (std::int64_t g = 0; row < n && g < groups; ++g) {
          float* const point = to + (((strip * group_count + g) * 8 + r) * 2 + tile) * 2;
          point[0] = scales[row * groups + g];
          point[1] = zeros[row * groups + g];
        }
      }
    }
  }
  return grids.to(type);
}

}  // namespace

PackedCodes::PackedCodes(CudaOps& ops, Stream stream, const CodedWeight& w, DType compute) : compute_(compute) {
  op_checks::pack_codes(w, compute);
  const std::int64_t n = w.codes.rows(), i = w.codes.cols();
  const int bits = w.bits <= 4 ? 4 : 8;
  const bool half_grids = all_f16(w.scales) && all_f16(w.zeros);
  const std::int64_t group_count = w.scales.cols() + (i % chunk_columns != 0);
  grids_ = ops.to_device(grids_of(w, group_count, half_grids ? DType::f16 : DType::f32));
  const std::vector<std::int32_t> columns = column_groups(w), chunks = chunk_groups(columns);
  const std::vector<std::int32_t>& groups = chunks.empty() ? columns : chunks;
  groups_ = ops.to_device(Tensor::of(groups, {static_cast<std::int64_t>(groups.size())}));

  // Panels of rows, so that the plain codes take little memory of the device.
  constexpr std::int64_t panel_bytes = std::int64_t{32} << 20, unit = 2 * strip_rows;
  const std::int64_t panel = std::max(unit, panel_bytes / i / unit * unit);
  const std::int64_t row_bytes = chunks_of(i) * chunk_columns * bits / 8;
  codes_ = ops.empty(DType::u8, {strips_of(n) * strip_rows, row_bytes});
  for (std::int64_t first = 0; first < n; first += panel) {
    const std::int64_t rows = std::min(panel, n - first);
    const Tensor plain = ops.to_device(w.codes.slice_rows(first, first + rows));
    shuffle_codes(device_data<std::uint8_t>(codes_) + first * row_bytes, device_data<std::uint8_t>(plain), rows, i,
                  bits, stream);
  }
  form_ = {nullptr, nullptr, nullptr, n, i, group_count, bits, half_grids, !chunks.empty()};
}

CodedView PackedCodes::view() const {
  CodedView v = form_;
  v.codes = device_raw(codes_);
  v.grids = device_raw(grids_);
  v.groups = device_data<std::int32_t>(groups_);
  return v;
}

const PackedCodes& packed_codes(const Weight& w) {
  const auto* codes = dynamic_cast<const PackedCodes*>(&w);
  check(codes != nullptr, "the weight belongs to another backend");
  return *codes;
}

WeightPtr CudaOps::pack_codes(const CodedWeight& w, DType compute) {
  return std::make_shared<PackedCodes>(*this, stream_, w, compute);
}

void linear_coded(CudaOps& ops, Stream stream, const Tensor& y, const Tensor& x, const Weight& weight,
                  const Tensor& b) {
  const PackedCodes& w = packed_codes(weight);
  const CodedView view = w.view();
  const Tensor rows = aligned_rows(ops, stream, x);
  const float* bias = b ? device_data<float>(b) : nullptr;
  if (x.dtype() != DType::f32) {
    gemm_coded({device_raw(y), y.dtype(), device_raw(rows), x.dtype(), rows.cols(), x.rows(), bias}, view, stream);
    return;
  }
  // No tensor core multiplies f32: the product with the expanded weight.
  const Tensor wide = ops.empty(DType::f32, {view.n, padded_depth(view.i, DType::f32)});
  expand_codes(device_data<float>(wide), wide.cols(), view, stream);
  gemm(device_raw(y), {DType::f32, device_raw(rows), wide.raw(), rows.cols(), wide.cols(), x.rows(), view.n, view.i},
       bias, stream);
}

}  // namespace ptq::cuda
