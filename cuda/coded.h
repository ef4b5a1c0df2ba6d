// Weights kept as integer codes on the device: their layout (coded.cu), their products (gemm_coded.cu), and the product
// of a few rows with any weight (gemv.cu).
//
// Layout of codes: strips of 16 output rows; a strip is a sequence of chunks of 64 input columns; in a chunk, each lane
// of a warp owns the elements that are its part of the B operands of m16n8k16 products: step s = 0..3 of 16 columns,
// tile t = 0, 1 of 8 output rows, element e = 0..3. Its codes in the order (s, t, e) fill 4 (u4) or 8 (u8) words from
// the low bits up, which lie in 16-byte vectors [strips][chunks][vectors][32 lanes]: a warp reads 512 bytes at once and
// multiplies what it has read, without any exchange between lanes.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

constexpr int strip_rows = 16, chunk_columns = 64;

// Output row that is row `r` = 0..7 of a tile. Two strips share 32 rows, dealt as gemm.cuh deals the columns of its
// products, so that a lane ends up with 8 neighbours.
constexpr std::int64_t coded_row(std::int64_t strip, int tile, int r) {
  return strip / 2 * 32 + r / 2 * 8 + strip % 2 * 4 + tile * 2 + r % 2;
}
constexpr std::int64_t strips_of(std::int64_t rows) { return (rows + 31) / 32 * 2; }
constexpr std::int64_t chunks_of(std::int64_t columns) { return (columns + chunk_columns - 1) / chunk_columns; }

// A weight of codes as kernels see it: w[n,k] = scale * (code - zero) in fp32, rounded to the type of x. Rows beyond N
// have codes and grids of 0; columns beyond I belong to a group of their own whose grids are 0.
struct CodedView {
  const void* codes;           // see above
  const void* grids;           // [strips][G][8][2] {scale, zero} f16 or f32: row r of tile t at [r][t]
  const std::int32_t* groups;  // [chunks] if all columns of a chunk have one group, else [chunks * 64]
  std::int64_t n, i;           // N, I
  std::int64_t group_count;    // G, with that of columns beyond I
  int bits;                    // 4 or 8
  bool half_grids, one_group;  // grids are f16; a chunk has one group
};

// to: codes of strips_of(rows) strips in this layout, from [rows, I] u8.
void shuffle_codes(void* to, const std::uint8_t* from, std::int64_t rows, std::int64_t columns, int bits,
                   Stream stream);

// to [N, ld] f32 = the values of w, then zeros; ld >= I and even.
void expand_codes(float* to, std::int64_t ld, const CodedView& w, Stream stream);

// y [T,N] of y_type = x W^T + b; b [N] or null. x [T, ldx] of `type`, its rows begin at multiples of 16 bytes.
struct CodedProduct {
  void* y;
  DType y_type;  // f32 or that of x
  const void* x;
  DType type;  // bf16 or f16
  std::int64_t ldx, rows;
  const float* b;
};
void gemm_coded(const CodedProduct& p, const CodedView& w, Stream stream);

}  // namespace ptq::cuda
