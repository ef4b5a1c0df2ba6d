// Products with weights of integer codes (W4A16, W8A16): codes become operands in registers.
//   formula   y[t,n] = sum_k x[t,k] w[n,k] + b[n],   w[n,k] = round(scales[n,g] (codes[n,k] - zeros[n,g])), g of k
//   shapes    x [T,I]   codes of W [N,I] as in coded.h   b [N]   y [T,N] of f32 or the type of x
//   maps      block = tile of y, 128 columns wide, in 4 warps side by side: a warp has all rows of the tile, so that
//             every code is dequantized once a block; its 32 columns are two strips of codes
//   order     k ascending, one accumulator per output: the bits of gemm.cu with the dequantized weight
//   cost      2 T N I flops; compute-bound from about 64 rows on, below bound by reading codes
//   twin      host/cpu/coded_weight.cpp     test  tests/test_ops_coded.cpp     chain  I
#include "cuda/coded.cuh"
#include "cuda/gemm.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int coded_stages = 3;   // two chunks on their way while one is multiplied
constexpr int x_row_vectors = 8;  // 16-byte vectors of a row of x in a chunk: all 32 banks
constexpr int grid_vectors = 8;   // of a strip, if grids are f32
static_assert(x_row_vectors * 8 == chunk_columns);

// A tile, and what a chunk of its operands takes in shared memory, in 16-byte vectors. 128 rows: 8 products for each
// operand that was dequantized, so that the tensor cores hide what that takes.
template <int tile_rows, int bits_, bool one_group_>
struct CodedTile : Tile<1, 4, tile_rows, 32> {
  static constexpr int bits = bits_;
  static constexpr bool one_group = one_group_;
  using Base = Tile<1, 4, tile_rows, 32>;
  static constexpr int strips = Base::cols / strip_rows, warp_strips = Base::warp_cols / strip_rows;
  static constexpr int strip_vectors = code_vectors<bits> * warp_lanes;
  static constexpr int codes_at = Base::rows * x_row_vectors, grids_at = codes_at + strips * strip_vectors;
  static constexpr int stage = grids_at + strips * grid_vectors;
  static constexpr std::size_t smem = std::size_t{coded_stages} * stage * sizeof(uint4);
  static_assert(smem <= 99 * 1024, "shared memory of sm_89");
};

// Where vector v of a row of x lies: eight rows in sequence, which ldmatrix reads together, on different banks. A mask
// instead of % tells the compiler that rows 16 apart are a constant apart, which saves registers.
__device__ int coded_x_place(int row, int v) { return row * x_row_vectors + (v ^ (row & (x_row_vectors - 1))); }

// Starts the copies of a chunk of x (rows from m on), codes and grids (strips from `strip` on). What lies beyond
// becomes 0.
template <class Shape, class T>
__device__ void copy_chunk(uint4* stage, const GemmOperands<T>& g, const CodedView& w, std::int64_t m, int strip,
                           int chunk) {
  const int thread = static_cast<int>(threadIdx.x), vector = thread % x_row_vectors;
  const int k = chunk * chunk_columns + vector * 8;
  const int bytes = max(0, min(g.depth - k, 8)) * 2;
#pragma unroll 2  // addresses of all rows would take the registers of the sums
  for (int row = thread / x_row_vectors; row < Shape::rows; row += Shape::threads / x_row_vectors) {
    const bool inside = m + row < g.rows && bytes > 0;
    cp_async_16(stage + coded_x_place(row, vector), inside ? g.x + (m + row) * g.ldx + k : g.x, inside ? bytes : 0);
  }
  const int last = static_cast<int>(strips_of(w.n)) - 1;  // is read for strips beyond, whose products are not stored
#pragma unroll
  for (int i = thread; i < Shape::strips * Shape::strip_vectors; i += Shape::threads) {
    const int s = min(strip + i / Shape::strip_vectors, last);
    cp_async_16(stage + Shape::codes_at + i, LaneCodes<Shape::bits>::at(w, s, chunk) + i % Shape::strip_vectors);
  }
  if constexpr (Shape::one_group) {
    const int vectors = grid_bytes(w.half_grids) / 16, i = thread / vectors;  // of a strip; strip
    if (i >= Shape::strips) return;
    const auto* from = static_cast<const uint4*>(grids_at(w, min(strip + i, last), w.groups[chunk]));
    cp_async_16(stage + Shape::grids_at + i * grid_vectors + thread % vectors, from + thread % vectors);
  }
}

}  // namespace

// The sums of a warp (gemm.cuh): sums += x w^T for the chunk in shared memory.
template <class T, int tile_rows, int bits, bool one_group>
class Sums<T, CodedTile<tile_rows, bits, one_group>> {
 public:
  using Shape = CodedTile<tile_rows, bits, one_group>;

  __device__ void multiply(const uint4* stage, const CodedView& w, int block_strip, int chunk) {
    const int lane = lane_index();
    LaneCodes<bits> codes[Shape::warp_strips];
    ChunkGrids<one_group> grids[Shape::warp_strips];
#pragma unroll
    for (int i = 0; i < Shape::warp_strips; ++i) {
      const int strip = warp_index() * Shape::warp_strips + i;
      codes[i].load(stage + Shape::codes_at + strip * Shape::strip_vectors, lane,
                    [](const uint4* from) { return *from; });
      if constexpr (one_group) {
        grids[i].grids = LaneGrids::load(stage + Shape::grids_at + strip * grid_vectors, w.half_grids, lane);
      }
    }
#pragma unroll
    for (int step = 0; step < chunk_steps; ++step) {
      std::uint32_t b[Shape::warp_strips][strip_tiles][2];
#pragma unroll
      for (int i = 0; i < Shape::warp_strips; ++i) {
        const int strip =
            min(block_strip + warp_index() * Shape::warp_strips + i, static_cast<int>(strips_of(w.n)) - 1);
        dequantize<T>(b[i], codes[i], step, grids[i].step(w, strip, chunk, step, lane));
      }
#pragma unroll
      for (int i = 0; i < mma_rows; ++i) {
        std::uint32_t a[4];
        ldmatrix_x4(a, stage + coded_x_place(i * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
        for (int j = 0; j < mma_cols; ++j) mma_16816<T>(sums_[i][j], a, b[j / strip_tiles][j % strip_tiles]);
      }
    }
  }

  // Sum c of run g in row r of this lane.
  __device__ float& at(int r, int g, int c) { return sums_[r / 2][g * 4 + c / 2][r % 2 * 2 + c % 2]; }

 private:
  static constexpr int mma_rows = Shape::warp_rows / 16, mma_cols = Shape::warp_cols / 8;
  float sums_[mma_rows][mma_cols][4] = {};
};

namespace {

template <class T, class Shape>
__global__ void __launch_bounds__(Shape::threads)  // with 128 rows, the sums are half of a thread's registers
    gemm_coded_kernel(void* __restrict__ y,        // [T,N] of f32 or T
                      bool y_is_f32,
                      const GemmOperands<T> g,        // x [T,I]
                      const CodedView w,              // [N,I]
                      const float* __restrict__ b) {  // [N] or null
  const TileIndex tile = tile_of_block(tiles(g.rows, Shape::rows), tiles(g.columns, Shape::cols));
  const std::int64_t m = tile.row * Shape::rows, n = tile.column * Shape::cols;
  const int strip = static_cast<int>(n / strip_rows), chunks = static_cast<int>(chunks_of(w.i));
  uint4* const smem = dynamic_smem<uint4>();
  const auto fetch = [&](int chunk) {
    if (chunk < chunks) copy_chunk<Shape>(smem + chunk % coded_stages * Shape::stage, g, w, m, strip, chunk);
    cp_async_commit();  // empty beyond the end, so that one count fits all chunks
  };

  Sums<T, Shape> sums;
  for (int chunk = 0; chunk < coded_stages - 1; ++chunk) fetch(chunk);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    cp_async_wait<coded_stages - 2>();
    __syncthreads();  // every thread's copies of this chunk have arrived, and the stage before is no longer read
    fetch(chunk + coded_stages - 1);
    sums.multiply(smem + chunk % coded_stages * Shape::stage, w, strip, chunk);
  }
  if (y_is_f32) {
    StoreLinear<float>{static_cast<float*>(y), b}(sums, g, m, n);
  } else {
    StoreLinear<T>{static_cast<T*>(y), b}(sums, g, m, n);
  }
}

template <class T, class Shape>
void launch_tiles(const CodedProduct& p, const CodedView& w, Stream stream) {
  const GemmOperands<T> g{static_cast<const T*>(p.x), nullptr, p.ldx, 0, p.rows, w.n, static_cast<int>(w.i)};
  const auto t = static_cast<double>(p.rows), n = static_cast<double>(w.n), i = static_cast<double>(w.i);
  launch("gemm_coded", gemm_coded_kernel<T, Shape>,
         {.grid = static_cast<unsigned>(tiles(p.rows, Shape::rows) * tiles(w.n, Shape::cols)),
          .block = Shape::threads,
          .smem = Shape::smem,
          .stream = stream,
          .flops = 2.0 * t * n * i,
          .bytes = n * i * Shape::bits / 8 + 2.0 * t * i + static_cast<double>(size_of(p.y_type)) * t * n},
         p.y, p.y_type == DType::f32, g, w, p.b);
}

template <class T, int bits, bool one_group>
void launch_rows(const CodedProduct& p, const CodedView& w, Stream stream) {
  p.rows <= 64 ? launch_tiles<T, CodedTile<64, bits, one_group>>(p, w, stream)
               : launch_tiles<T, CodedTile<128, bits, one_group>>(p, w, stream);
}

template <class T, int bits>
void launch_groups(const CodedProduct& p, const CodedView& w, Stream stream) {
  w.one_group ? launch_rows<T, bits, true>(p, w, stream) : launch_rows<T, bits, false>(p, w, stream);
}

}  // namespace

void gemm_coded(const CodedProduct& p, const CodedView& w, Stream stream) {
  visit_half(p.type, [&](auto type) {
    using T = decltype(type);
    w.bits == 4 ? launch_groups<T, 4>(p, w, stream) : launch_groups<T, 8>(p, w, stream);
  });
}

}  // namespace ptq::cuda
