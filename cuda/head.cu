// LM head
//   formula   l[r,v] = cap(scale · sum_d x[r,d] w[v,d]), cap(z) = c tanh(z / c) or z
//             log p(r, v) = l[r,v] - log sum_u e^l[r,u]
//   shapes    x (R, D)   w (V, D)   l (R, V) f32   parts (R, P) of (max, sum)   logprobs (n) f64
//   maps      the tiles of gemm.cuh; a block turns its sums into one part of each of its rows: that of a lane, then of
//             4 lanes, then of 4 warps side by side, P = V / 256 (128 for f32); warp ↔ row where parts meet, in f64
//   cost      2 R V D flops: compute-bound; parts are 1/128 of the bytes of the logits (1/64 for f32)
//   twin      host/cpu/logits.cpp     test  tests/test_ops_products.cpp     chain  D, then 16 + 2 + 4
#include "cuda/head.h"

#include "cuda/gemm_f32.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int head_threads = 256;
constexpr int head_warps = head_threads / warp_lanes;

// The tile whose columns are a part of a row, whatever R is: the bits of a row do not depend on the batch.
template <class T>
using PartTile = WideTile<T>;

__device__ float minus_infinity() { return __uint_as_float(0xff800000u); }

__device__ float transform(float logit, LogitMap map) {
  const float scaled = map.scale * logit;
  return map.soft_cap > 0.0f ? map.soft_cap * tanhf(scaled / map.soft_cap) : scaled;
}

// The max whose exponential scales a sum: 0 where there is nothing to scale by.
__device__ float base(float max) { return max > minus_infinity() ? max : 0.0f; }

// Two parts (max, sum) as one. An empty part is (-inf, 0).
__device__ float2 merge(float2 a, float2 b) {
  const float max = fmaxf(a.x, b.x);
  return make_float2(max, a.y * expf(a.x - base(max)) + b.y * expf(b.x - base(max)));
}

// Of the columns of a warp, of which 4 lanes hold runs of 8: logit(run, c) is this lane's. The same in all 4.
template <int runs, class Logit>
__device__ float2 quad_statistics(Logit logit) {
  float max = minus_infinity(), sum = 0.0f;
#pragma unroll
  for (int run = 0; run < runs; ++run) {
#pragma unroll
    for (int c = 0; c < run_columns; ++c) max = fmaxf(max, logit(run, c));
  }
#pragma unroll
  for (int step = 1; step < 4; step *= 2) max = fmaxf(max, __shfl_xor_sync(all_lanes, max, step));
#pragma unroll
  for (int run = 0; run < runs; ++run) {
#pragma unroll
    for (int c = 0; c < run_columns; ++c) sum += expf(logit(run, c) - base(max));
  }
#pragma unroll
  for (int step = 1; step < 4; step *= 2) sum += __shfl_xor_sync(all_lanes, sum, step);
  return make_float2(max, sum);
}

// --- epilogues of the product ----------------------------------------------------------------------------------------
// Products of row r of a lane to logits, of which `columns` are left from the tile's first; beyond they count nothing.
template <class T, class Shape>
__device__ void to_logits(Sums<T, Shape>& sums, int r, std::int64_t columns, LogitMap map) {
#pragma unroll
  for (int run = 0; run < Shape::lane_runs; ++run) {
#pragma unroll
    for (int c = 0; c < run_columns; ++c) {
      const bool inside = tile_column<Shape>(run) + c < columns;
      sums.at(r, run, c) = inside ? transform(sums.at(r, run, c), map) : minus_infinity();
    }
  }
}

struct StoreLogits {
  float* y;  // [R, V]
  LogitMap map;

  template <class T, class Shape>
  __device__ void operator()(Sums<T, Shape>& sums, const GemmOperands<T>& g, std::int64_t m, std::int64_t n) const {
#pragma unroll
    for (int r = 0; r < Shape::lane_rows; ++r) to_logits(sums, r, g.columns - n, map);
    store_sums(y, sums, g, m, n);
  }
};

struct StoreStatistics {
  LogitParts p;
  LogitMap map;

  template <class T, class Shape>
  __device__ void operator()(Sums<T, Shape>& sums, const GemmOperands<T>& g, std::int64_t m, std::int64_t n) const {
    __syncthreads();  // the product's tiles are no longer read: their memory is free
    // [rows of the tile][warps side by side]
    float2* const of_warps = dynamic_smem<float2>();
#pragma unroll
    for (int r = 0; r < Shape::lane_rows; ++r) {
      const int row = tile_row<Shape>(r);
      to_logits(sums, r, g.columns - n, map);
      if (m + row < g.rows) pick_targets(sums, r, m + row, n);
      const float2 part = quad_statistics<Shape::lane_runs>([&](int run, int c) { return sums.at(r, run, c); });
      if (lane_index() % 4 == 0) of_warps[row * Shape::warps_n + warp_index() % Shape::warps_n] = part;
    }
    __syncthreads();  // of_warps is complete
    static_assert(Shape::rows <= Shape::threads, "a thread combines a row");
    const int row = static_cast<int>(threadIdx.x);
    if (row >= Shape::rows || m + row >= g.rows) return;
    float2 part = of_warps[row * Shape::warps_n];
    for (int w = 1; w < Shape::warps_n; ++w) part = merge(part, of_warps[row * Shape::warps_n + w]);
    reinterpret_cast<float2*>(p.parts)[(m + row) * p.count + n / Shape::cols] = part;
  }

 private:
  // Stores this lane's logits that are targets of the row.
  template <class T, class Shape>
  __device__ void pick_targets(Sums<T, Shape>& sums, int r, std::int64_t row, std::int64_t n) const {
    for (std::int32_t t = p.begin[row]; t < p.begin[row + 1]; ++t) {
      const std::int64_t column = p.tokens[t] - n;
#pragma unroll
      for (int run = 0; run < Shape::lane_runs; ++run) {
        const std::int64_t offset = column - tile_column<Shape>(run);
        if (offset < 0 || offset >= run_columns) continue;
#pragma unroll
        for (int c = 0; c < run_columns; ++c) {  // an index that is known when compiling keeps sums in registers
          if (offset == c) p.target_logits[t] = sums.at(r, run, c);
        }
      }
    }
  }
};

// --- kernels ---------------------------------------------------------------------------------------------------------
// Thread ↔ element.
__global__ void __launch_bounds__(head_threads) transform_logits_kernel(float* y,  // (count)
                                                                        std::int64_t count, LogitMap map) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * head_threads + threadIdx.x;
  if (i < count) y[i] = transform(y[i], map);
}

// Statistics of stored products, for weights whose products have no such epilogue, in its order: 16 lanes ↔ (row,
// part), 4 of them ↔ the columns of a warp.
template <class T>
__global__ void __launch_bounds__(head_threads) logit_statistics_kernel(const LogitParts p,
                                                                        const float* __restrict__ y,  // (R, V)
                                                                        std::int64_t vocabulary, LogitMap map) {
  using Shape = PartTile<T>;
  constexpr int sharers = 4 * Shape::warps_n;
  const std::int64_t item = (static_cast<std::int64_t>(blockIdx.x) * head_threads + threadIdx.x) / sharers;
  const bool inside = item < p.rows * p.count;  // all lanes take part in the exchanges
  const int sharer = lane_index() % sharers;
  const std::int64_t row = inside ? item / p.count : 0, part = inside ? item % p.count : 0;
  const float* const of_row = y + row * vocabulary;
  const std::int64_t first = part * Shape::cols + sharer / 4 * Shape::warp_cols + sharer % 4 * run_columns;
  float logits[Shape::lane_runs][run_columns];
#pragma unroll
  for (int run = 0; run < Shape::lane_runs; ++run) {
#pragma unroll
    for (int c = 0; c < run_columns; ++c) {
      const std::int64_t v = first + run * 32 + c;
      logits[run][c] = v < vocabulary ? transform(of_row[v], map) : minus_infinity();
    }
  }
  const float2 mine = quad_statistics<Shape::lane_runs>([&](int run, int c) { return logits[run][c]; });
  const auto of_quad = [&](int q) {
    return make_float2(__shfl_sync(all_lanes, mine.x, 4 * q, sharers), __shfl_sync(all_lanes, mine.y, 4 * q, sharers));
  };
  float2 total = of_quad(0);
#pragma unroll
  for (int q = 1; q < Shape::warps_n; ++q) total = merge(total, of_quad(q));
  if (!inside) return;
  if (sharer == 0) reinterpret_cast<float2*>(p.parts)[item] = total;
  for (std::int32_t t = p.begin[row] + sharer; t < p.begin[row + 1]; t += sharers) {
    if (p.tokens[t] / Shape::cols == part) p.target_logits[t] = transform(of_row[p.tokens[t]], map);
  }
}

// Warp ↔ row: parts in f64, lane sums in their order, then a tree.
__global__ void __launch_bounds__(head_threads) combine_logprobs_kernel(double* __restrict__ logprobs,  // (n)
                                                                        const LogitParts p) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * head_warps + warp_index();
  if (row >= p.rows) return;
  const float2* const parts = reinterpret_cast<const float2*>(p.parts) + row * p.count;
  const int count = static_cast<int>(p.count);
  float max = minus_infinity();
  for (int i = lane_index(); i < count; i += warp_lanes) max = fmaxf(max, parts[i].x);
  const double top = base(warp_reduce(max, fmaxf));
  double sum = 0.0;
  for (int i = lane_index(); i < count; i += warp_lanes) sum += parts[i].y * exp(parts[i].x - top);
  const double normaliser = top + log(warp_sum(sum));
  for (std::int32_t t = p.begin[row] + lane_index(); t < p.begin[row + 1]; t += warp_lanes) {
    logprobs[t] = p.target_logits[t] - normaliser;
  }
}

std::size_t part_bytes(const LogitParts& p) { return static_cast<std::size_t>(p.rows * p.count) * sizeof(float2); }

}  // namespace

std::int64_t parts_of_row(std::int64_t vocabulary, DType type) {
  return tiles(vocabulary, type == DType::f32 ? PartTile<float>::cols : PartTile<bf16>::cols);
}

void gemm_logits(float* y, const GemmShape& g, LogitMap map, Stream stream) {
  visit_float(g.type, [&](auto type) {
    const auto bytes = static_cast<std::size_t>(g.rows * g.columns) * sizeof(float);
    launch_gemm<decltype(type)>("gemm_logits", StoreLogits{y, map}, g, bytes, stream);
  });
}

void transform_logits(float* y, std::int64_t count, LogitMap map, Stream stream) {
  launch("transform_logits", transform_logits_kernel,
         {.grid = static_cast<unsigned>(tiles(count, head_threads)),
          .block = head_threads,
          .stream = stream,
          .bytes = 8.0 * static_cast<double>(count)},
         y, count, map);
}

void logit_statistics(const LogitParts& p, const GemmShape& g, LogitMap map, Stream stream) {
  visit_float(g.type, [&](auto type) {
    using T = decltype(type);
    launch_tiles<T, PartTile<T>>("logit_statistics", StoreStatistics{p, map}, g, part_bytes(p), stream);
  });
}

void logit_statistics(const LogitParts& p, DType type, const float* y, std::int64_t vocabulary, LogitMap map,
                      Stream stream) {
  visit_float(type, [&](auto of) {
    using T = decltype(of);
    constexpr int items = head_threads / (4 * PartTile<T>::warps_n);  // of a block
    launch("logit_statistics of logits", logit_statistics_kernel<T>,
           {.grid = static_cast<unsigned>(tiles(p.rows * p.count, items)),
            .block = head_threads,
            .stream = stream,
            .bytes = 4.0 * static_cast<double>(p.rows * vocabulary) + static_cast<double>(part_bytes(p))},
           p, y, vocabulary, map);
  });
}

void combine_logprobs(double* logprobs, const LogitParts& p, Stream stream) {
  launch("combine_logprobs", combine_logprobs_kernel,
         {.grid = static_cast<unsigned>(tiles(p.rows, head_warps)),
          .block = head_threads,
          .stream = stream,
          .bytes = static_cast<double>(part_bytes(p))},
         logprobs, p);
}

}  // namespace ptq::cuda
