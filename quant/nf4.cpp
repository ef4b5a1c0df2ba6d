#include "quant/nf4.h"

#include "model/nf4_book.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t second_block = 256;  // absmax values that share an absmax of their own

// fp32 mean by 32 running sums over runs of 16 terms: the order of PyTorch's sum, whose last bit bitsandbytes inherits.
float mean(std::span<const float> values) {
  constexpr std::size_t lanes = 32, run = 16 * lanes;
  std::array<float, lanes> total{};
  for (std::size_t begin = 0; begin < values.size(); begin += run) {
    std::array<float, lanes> sum{};
    const std::size_t end = std::min(values.size(), begin + run);
    for (std::size_t i = begin; i < end; ++i) sum[(i - begin) % lanes] += values[i];
    for (std::size_t i = 0; i < lanes; ++i) total[i] += sum[i];
  }
  constexpr std::size_t width = 8;
  for (std::size_t i = width; i < lanes; ++i) total[i % width] += total[i];
  float sum = 0.0f;
  for (std::size_t i = 0; i < width; ++i) sum += total[i];
  return sum / static_cast<float>(values.size());
}

// The code that the table of 65536 points over [-1, 1] holds for x.
std::uint8_t looked_up(float x) {
  const float place = (std::clamp(x, -1.0f, 1.0f) + 1.0f) * 0.5f * 65535.0f + 0.5f;
  const double point = std::trunc(static_cast<double>(place)) * (2.0 / 65535.0) - 1.0;
  const auto& book = dynamic_book();
  const auto above = std::lower_bound(book.begin(), book.end(), point);
  auto index = std::min<std::int64_t>(above - book.begin(), std::ssize(book) - 1);
  if (index > 0) {
    const auto at = static_cast<std::size_t>(index);
    if (point - static_cast<double>(book[at - 1]) <= static_cast<double>(book[at]) - point) --index;
  }
  return static_cast<std::uint8_t>(index);
}

std::array<float, 256> make_dynamic_book() {
  std::array<float, 256> book{};
  std::size_t size = 0;
  for (int exponent = 0; exponent < 7; ++exponent) {
    const auto scale = static_cast<float>(std::pow(10.0, exponent - 6));
    const int intervals = 1 << exponent;
    const float step = (1.0f - 0.1f) / static_cast<float>(intervals);
    // Points of an even division of [0.1, 1], counted from the nearer end as PyTorch's linspace does.
    const auto point = [&](int i) {
      return i < (intervals + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                     : std::fma(-step, static_cast<float>(intervals - i), 1.0f);
    };
    for (int i = 0; i < intervals; ++i) {
      const float middle = scale * ((point(i) + point(i + 1)) / 2.0f);
      book[size++] = middle;
      book[size++] = -middle;
    }
  }
  book[size++] = 0.0f;
  book[size++] = 1.0f;
  check(size == book.size(), "dynamic book of {} values", size);
  std::sort(book.begin(), book.end());
  return book;
}

// Rounds `count` elements from `first` on, as rows of `width`.
void round_blocks(Ops& ops, const QuantizedMatrix& m, const Tensor& w, std::int64_t first, std::int64_t rows,
                  std::int64_t width, std::int64_t first_block) {
  if (rows == 0) return;
  const std::int64_t count = rows * width;
  const Tensor in = ops.to_device(w.reshape({w.numel(), 1}).slice_rows(first, first + count).reshape({rows, width}));
  const Tensor codes = ops.empty(DType::u8, {rows, width}), absmax = ops.empty(DType::f32, {rows});
  ops.round_to_book(codes, absmax, in, nf4_book);
  const Tensor codes_here = ops.to_host(codes), absmax_here = ops.to_host(absmax);
  std::copy_n(codes_here.data<std::uint8_t>(), count, m.codes.data<std::uint8_t>() + first);
  std::copy_n(absmax_here.data<float>(), rows, m.scales.data<float>() + first_block);
}

}  // namespace

const std::array<float, 256>& dynamic_book() {
  static const std::array<float, 256> book = make_dynamic_book();
  return book;
}

DoubleQuantized double_quantize(const Tensor& absmax) {
  const auto values = absmax.span<float>();
  check(!values.empty(), "double quantization of nothing");
  const auto count = std::ssize(values);
  DoubleQuantized d{Tensor::empty(DType::u8, {count}),
                    Tensor::empty(DType::f32, {(count + second_block - 1) / second_block}), mean(values)};
  for (std::int64_t begin = 0; begin < count; begin += second_block) {
    const std::int64_t end = std::min(count, begin + second_block);
    float largest = 0.0f;
    for (std::int64_t i = begin; i < end; ++i)
      largest = std::max(largest, std::fabs(values[static_cast<std::size_t>(i)] - d.offset));
    const float inverse = largest > 0.0f ? 1.0f / largest : 0.0f;
    for (std::int64_t i = begin; i < end; ++i)
      d.codes.data<std::uint8_t>()[i] = looked_up((values[static_cast<std::size_t>(i)] - d.offset) * inverse);
    d.absmax2.data<float>()[begin / second_block] = largest;
  }
  return d;
}

Tensor dequantize(const DoubleQuantized& d) {
  Tensor absmax = Tensor::empty(DType::f32, {d.codes.numel()});
  for (std::int64_t i = 0; i < d.codes.numel(); ++i) {
    absmax.data<float>()[i] =
        dynamic_book()[d.codes.data<std::uint8_t>()[i]] * d.absmax2.data<float>()[i / second_block] + d.offset;
  }
  return absmax;
}

QuantizedMatrix quantize_nf4(Ops& ops, const Tensor& w, const QuantSpec& spec) {
  const std::int64_t count = w.numel(), block = spec.group, whole = count / block;
  QuantizedMatrix m;
  m.codes = Tensor::empty(DType::u8, w.shape());
  m.scales = Tensor::empty(DType::f32, {(count + block - 1) / block, 1});
  round_blocks(ops, m, w, 0, whole, block, 0);
  round_blocks(ops, m, w, whole * block, count % block == 0 ? 0 : 1, count % block, whole);
  if (spec.double_quant) m.scales = dequantize(double_quantize(m.scales)).reshape(m.scales.shape());

  m.q = Tensor::empty(DType::f32, w.shape());
  const std::uint8_t* codes = m.codes.data<std::uint8_t>();
  const float* scales = m.scales.data<float>();
  float* q = m.q.data<float>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) q[i] = nf4_book[codes[i]] * scales[i / block];
  m.err_rows = squared_error_rows(w, m.q);
  return m;
}

}  // namespace ptq
