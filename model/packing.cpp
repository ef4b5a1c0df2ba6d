#include "model/packing.h"

#include <algorithm>
#include <array>

namespace ptq {

namespace {

constexpr std::array<int, 8> awq_order{0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::int64_t tile = 64;             // of a transposition: rows and columns that fit a first-level cache
constexpr std::int64_t worthwhile = 1 << 16;  // elements for which threads are woken

void check_bits(int bits) { check(bits == 2 || bits == 3 || bits == 4 || bits == 8, "packing of {} bits", bits); }

template <class T>
Tensor transposed(const Tensor& matrix) {
  const std::int64_t rows = matrix.dim(0), cols = matrix.dim(1);
  Tensor out = Tensor::empty(matrix.dtype(), {cols, rows});
  const T* from = static_cast<const T*>(matrix.raw());
  T* to = static_cast<T*>(out.raw());
#pragma omp parallel for schedule(static) if (rows * cols > worthwhile)
  for (std::int64_t c0 = 0; c0 < cols; c0 += tile) {
    for (std::int64_t r0 = 0; r0 < rows; r0 += tile) {
      for (std::int64_t c = c0; c < std::min(cols, c0 + tile); ++c) {
        for (std::int64_t r = r0; r < std::min(rows, r0 + tile); ++r) to[c * rows + r] = from[r * cols + c];
      }
    }
  }
  return out;
}

// Puts code order[i] of each word to position i; inverse: code i to position order[i].
Tensor reorder(const Tensor& codes, bool inverse) {
  check(codes.rank() == 2 && codes.cols() % 8 == 0, "AWQ order of {}", to_string(codes.shape()));
  Tensor out = Tensor::empty(DType::u8, codes.shape());
  const std::uint8_t* from = codes.data<std::uint8_t>();
  std::uint8_t* to = out.data<std::uint8_t>();
  const std::int64_t words = codes.numel() / 8;
#pragma omp parallel for schedule(static) if (words > worthwhile)
  for (std::int64_t w = 0; w < words; ++w) {
    for (int i = 0; i < 8; ++i) {
      const int j = awq_order[static_cast<std::size_t>(i)];
      to[w * 8 + (inverse ? j : i)] = from[w * 8 + (inverse ? i : j)];
    }
  }
  return out;
}

}  // namespace

std::int64_t packed_words(std::int64_t count, int bits) { return (count * bits + 31) / 32; }

Tensor pack_rows(const Tensor& codes, int bits) {
  check_bits(bits);
  check(codes.rank() == 2, "codes of shape {}", to_string(codes.shape()));
  const std::int64_t rows = codes.dim(0), count = codes.dim(1), words = packed_words(count, bits);
  Tensor out = Tensor::empty(DType::i32, {rows, words});
  const std::uint8_t* from = codes.data<std::uint8_t>();
  std::int32_t* to = out.data<std::int32_t>();
#pragma omp parallel for schedule(static) if (rows * count > worthwhile)
  for (std::int64_t r = 0; r < rows; ++r) {
    std::uint64_t pending = 0;  // bits not yet written, the oldest lowest
    int held = 0;
    std::int32_t* word = to + r * words;
    for (std::int64_t j = 0; j < count; ++j) {
      pending |= static_cast<std::uint64_t>(from[r * count + j]) << held;
      held += bits;
      if (held >= 32) {
        *word++ = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
        pending >>= 32;
        held -= 32;
      }
    }
    if (held > 0) *word = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
  }
  return out;
}

Tensor unpack_rows(const Tensor& words, int bits, std::int64_t count) {
  check_bits(bits);
  check(words.rank() == 2 && words.dim(1) == packed_words(count, bits), "words of shape {} for {} codes of {} bits",
        to_string(words.shape()), count, bits);
  const std::int64_t rows = words.dim(0), stride = words.dim(1);
  Tensor out = Tensor::empty(DType::u8, {rows, count});
  const std::int32_t* from = words.data<std::int32_t>();
  std::uint8_t* to = out.data<std::uint8_t>();
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
#pragma omp parallel for schedule(static) if (rows * count > worthwhile)
  for (std::int64_t r = 0; r < rows; ++r) {
    std::uint64_t pending = 0;
    int held = 0;
    const std::int32_t* word = from + r * stride;
    for (std::int64_t j = 0; j < count; ++j) {
      if (held < bits) {
        pending |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(*word++)) << held;
        held += 32;
      }
      to[r * count + j] = static_cast<std::uint8_t>(pending & mask);
      pending >>= bits;
      held -= bits;
    }
  }
  return out;
}

Tensor transpose(const Tensor& matrix) {
  check(matrix.rank() == 2, "transposition of {}", to_string(matrix.shape()));
  switch (size_of(matrix.dtype())) {
    case 1:
      return transposed<std::uint8_t>(matrix);
    case 2:
      return transposed<std::uint16_t>(matrix);
    case 4:
      return transposed<std::uint32_t>(matrix);
    default:
      fail(Exit::internal, "transposition of {}", name_of(matrix.dtype()));
  }
}

Tensor awq_interleave(const Tensor& codes) { return reorder(codes, false); }
Tensor awq_deinterleave(const Tensor& codes) { return reorder(codes, true); }

}  // namespace ptq
