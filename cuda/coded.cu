// Codes into the layout of coded.h, and out of it.
//   formula   to[strip, chunk, lane, (s, t, e)] = codes[n, k];   to[n,k] = scales[n,g] (codes[n,k] - zeros[n,g])
//             n = coded_row(strip, t, lane / 4), k = 64 chunk + 16 s + b_k(lane, e), g = group of column k
//   shapes    codes [N,I] u8   to [strips, chunks, vectors, 32] x 16 bytes, or [N,ld] f32
//   maps      shuffle: thread = one 16-byte vector; expand: warp = one chunk of a strip
//   cost      once per weight; expansion, for f32 activations only, writes 4 bytes per code: memory-bound
//   twin      host/cpu/coded_weight.cpp     test  tests/test_ops_coded.cpp     chain  none
#include "cuda/coded.cuh"

namespace ptq::cuda {

namespace {

constexpr int coded_threads = 256;

template <int bits>
__global__ void __launch_bounds__(coded_threads)
    shuffle_codes_kernel(uint4* __restrict__ to,                 // [strips, chunks, vectors, 32]
                         const std::uint8_t* __restrict__ from,  // [rows, columns]
                         std::int64_t rows, std::int64_t columns) {
  const std::int64_t at = std::int64_t{blockIdx.x} * coded_threads + threadIdx.x;  // of the vector
  const int lane = static_cast<int>(at % warp_lanes), vector = static_cast<int>(at / warp_lanes % code_vectors<bits>);
  const std::int64_t place = at / (warp_lanes * code_vectors<bits>), chunks = chunks_of(columns);
  const std::int64_t strip = place / chunks, chunk = place % chunks;
  if (strip >= strips_of(rows)) return;
  constexpr int per_word = 32 / bits;
  std::uint32_t words[4] = {};
  for (int j = 0; j < 4 * per_word; ++j) {
    const int number = vector * 4 * per_word + j, s = number / 8, t = number / 4 % 2, e = number % 4;
    const std::int64_t n = coded_row(strip, t, HalfMma::b_col(lane, e));
    const std::int64_t k = chunk * chunk_columns + s * 16 + HalfMma::b_k(lane, e);
    const std::uint32_t code = n < rows && k < columns ? from[n * columns + k] : 0;
    words[j / per_word] |= code << (j % per_word * bits);
  }
  to[at] = make_uint4(words[0], words[1], words[2], words[3]);
}

template <int bits, bool one_group>
__global__ void __launch_bounds__(coded_threads) expand_codes_kernel(float* __restrict__ to,  // [N, ld]
                                                                     std::int64_t ld, const CodedView w) {
  const std::int64_t place = std::int64_t{blockIdx.x} * (coded_threads / warp_lanes) + warp_index();
  const auto strip = static_cast<int>(place / chunks_of(w.i)), chunk = static_cast<int>(place % chunks_of(w.i));
  if (strip >= strips_of(w.n)) return;
  const int lane = lane_index();
  LaneCodes<bits> codes;
  ChunkGrids<one_group> grids;
  codes.load(LaneCodes<bits>::at(w, strip, chunk), lane, [](const uint4* from) { return *from; });
  grids.load(w, strip, chunk, lane);
#pragma unroll
  for (int s = 0; s < chunk_steps; ++s) {
    float2 values[strip_tiles][2];
    dequantize<float>(values, codes, s, grids.step(w, strip, chunk, s, lane));
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) {
      const std::int64_t n = coded_row(strip, t, HalfMma::b_col(lane, 0));
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const std::int64_t k = chunk * chunk_columns + s * 16 + HalfMma::b_k(lane, e);
        if (n < w.n && k < ld) *reinterpret_cast<float2*>(to + n * ld + k) = values[t][e / 2];
      }
    }
  }
}

}  // namespace

void shuffle_codes(void* to, const std::uint8_t* from, std::int64_t rows, std::int64_t columns, int bits,
                   Stream stream) {
  const std::int64_t vectors = strips_of(rows) * chunks_of(columns) * (lane_codes * bits / 128) * warp_lanes;
  launch("shuffle_codes", bits == 4 ? shuffle_codes_kernel<4> : shuffle_codes_kernel<8>,
         {.grid = static_cast<unsigned>(tiles(vectors, coded_threads)),
          .block = coded_threads,
          .stream = stream,
          .bytes = static_cast<double>(rows * columns) * (1.0 + bits / 8.0)},
         static_cast<uint4*>(to), from, rows, columns);
}

void expand_codes(float* to, std::int64_t ld, const CodedView& w, Stream stream) {
  const auto kernel = w.bits == 4 ? (w.one_group ? expand_codes_kernel<4, true> : expand_codes_kernel<4, false>)
                                  : (w.one_group ? expand_codes_kernel<8, true> : expand_codes_kernel<8, false>);
  launch("expand_codes", kernel,
         {.grid = static_cast<unsigned>(tiles(strips_of(w.n) * chunks_of(w.i), coded_threads / warp_lanes)),
          .block = coded_threads,
          .stream = stream,
          .flops = 2.0 * static_cast<double>(w.n * w.i),
          .bytes = static_cast<double>(w.n * w.i) * (4.0 + w.bits / 8.0)},
         to, ld, w);
}

}  // namespace ptq::cuda
