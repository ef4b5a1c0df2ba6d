#include "model/packed_format.h"

#include "host/printable.h"
#include "model/packing.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t worthwhile = 1 << 16;  // elements for which threads are woken

bool is_gptq(PackedFormat format) { return format == PackedFormat::gptq || format == PackedFormat::gptq_v2; }

std::int64_t groups_of(const PackedConfig& c, std::int64_t i) {
  return c.group == -1 ? 1 : (i + c.group - 1) / c.group;
}

// Zero of a symmetric grid: the middle code.
std::uint8_t middle(int bits) { return static_cast<std::uint8_t>(1 << (bits - 1)); }

// GPTQ and AWQ name their tensors alike, compressed-tensors otherwise.
struct Names {
  std::string weight, scales, zeros, g_idx;
};

Names names_of(const PackedConfig& c, const std::string& module) {
  if (c.format == PackedFormat::pack_quantized) {
    return {module + ".weight_packed", module + ".weight_scale", module + ".weight_zero_point",
            module + ".weight_g_idx"};
  }
  return {module + ".qweight", module + ".scales", module + ".qzeros", module + ".g_idx"};
}

Tensor read_scales(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor scales = checkpoint.read(name, DType::f32);
  const auto values = scales.span<float>();
  const auto bad = std::find_if(values.begin(), values.end(), [](float s) { return !std::isfinite(s); });
  require(bad == values.end(), Exit::data, "{}: scale {} is {}, not a finite number", printable(name),
          bad - values.begin(), bad == values.end() ? 0.0f : *bad);
  return scales;
}

// [N, G] u8 to f32, `add` to each; GPTQ v1 stores one less, so that a stored maximum is ambiguous.
Tensor zeros_of(const Tensor& stored, const PackedConfig& c, const std::string& name) {
  Tensor zeros = Tensor::empty(DType::f32, stored.shape());
  const auto from = stored.span<std::uint8_t>();
  const auto to = zeros.span<float>();
  const bool minus_one = c.format == PackedFormat::gptq;
  const auto top = static_cast<std::uint8_t>((1 << c.bits) - 1);
  for (std::size_t k = 0; k < from.size(); ++k) {
    require(!minus_one || from[k] != top, Exit::data,
            "{}: a stored {} in GPTQ v1 means zero point {} to some readers and 0 to others; quantize again to "
            "gptq_v2, or symmetrically",
            printable(name), top, top + 1);
    to[k] = static_cast<float>(from[k] + (minus_one ? 1 : 0));
  }
  return zeros;
}

Tensor read_g_idx(const Checkpoint& checkpoint, const PackedConfig& c, const std::string& name, std::int64_t i,
                  std::int64_t groups) {
  if (checkpoint.tensors().contains(name)) {
    const Tensor index = checkpoint.read(name, DType::i32);
    const auto values = index.span<std::int32_t>();
    const auto bad = std::find_if(values.begin(), values.end(), [&](std::int32_t g) { return g < 0 || g >= groups; });
    require(bad == values.end(), Exit::data, "{}: column {} is in group {}, but there are {} groups", printable(name),
            bad - values.begin(), bad == values.end() ? 0 : *bad, groups);
    return index;
  }
  Tensor index = Tensor::zeros(DType::i32, {i});
  if (c.group == -1) return index;
  for (std::int64_t k = 0; k < i; ++k) index.data<std::int32_t>()[k] = static_cast<std::int32_t>(k / c.group);
  return index;
}

// The library stores the logical shape beside the words.
void check_weight_shape(const Checkpoint& checkpoint, const std::string& name, const Shape& shape) {
  const auto at = checkpoint.tensors().find(name);
  if (at == checkpoint.tensors().end()) return;
  const Tensor stored = checkpoint.read(name, DType::i64);
  require(std::equal(shape.begin(), shape.end(), stored.data<std::int64_t>()), Exit::data,
          "{}: it says [{}, {}], config.json asks for {}", printable(name), stored.data<std::int64_t>()[0],
          stored.data<std::int64_t>()[1], to_string(shape));
}

Tensor to_codes(const Tensor& values) {
  Tensor out = Tensor::empty(DType::u8, values.shape());
  const float* from = values.data<float>();
  std::uint8_t* to = out.data<std::uint8_t>();
  for (std::int64_t k = 0; k < values.numel(); ++k) to[k] = static_cast<std::uint8_t>(from[k]);
  return out;
}

// Zero points [N, G] f32 as u8 codes, checked: they come from a quantizer.
Tensor zero_codes(const Tensor& zeros, const PackedConfig& c, const std::string& module) {
  const auto top = static_cast<float>((1 << c.bits) - 1);
  const std::int64_t groups = zeros.cols();
  const float* z = zeros.data<float>();
  for (std::int64_t k = 0; k < zeros.numel(); ++k) {
    check(z[k] >= 0.0f && z[k] <= top && z[k] == std::nearbyint(z[k]), "{}: zero point {}", module, z[k]);
    require(c.format != PackedFormat::gptq || z[k] != 0.0f, Exit::usage,
            "{}: the zero point of row {}, group {} is 0, which GPTQ v1 cannot store (it stores zero - 1); use "
            "--format gptq-v2 or compressed-tensors, or --sym",
            module, k / groups, k % groups);
    check(!c.symmetric || c.format != PackedFormat::pack_quantized || z[k] == static_cast<float>(middle(c.bits)),
          "{}: zero point {} of a symmetric grid", module, z[k]);
  }
  return to_codes(zeros);
}

}  // namespace

std::string packed_weight_name(const PackedConfig& c, const std::string& module) {
  return c.format == PackedFormat::int_quantized ? module + ".weight" : names_of(c, module).weight;
}

std::map<std::string, PackedTensor> packed_tensors(const PackedConfig& c, const std::string& module, std::int64_t n,
                                                   std::int64_t i) {
  if (c.format == PackedFormat::int_quantized) {
    return {{module + ".weight", {{n, i}, DType::i8}}, {module + ".weight_scale", {{n, 1}, DType::f32}}};
  }
  const Names names = names_of(c, module);
  const std::int64_t groups = groups_of(c, i);
  const auto words = [&](std::int64_t count) { return packed_words(count, c.bits); };
  const auto whole_words = [&](const char* what, std::int64_t count) {
    require(count * c.bits % 32 == 0, Exit::data, "{}: {} {} of {} bits do not fill whole 32-bit words", module, count,
            what, c.bits);
  };
  std::map<std::string, PackedTensor> all;
  if (is_gptq(c.format)) {
    whole_words("columns", i);
    whole_words("rows", n);
    all[names.weight] = {{words(i), n}};
    all[names.zeros] = {{groups, words(n)}};
    all[names.scales] = {{groups, n}, DType::f32};
    all[names.g_idx] = {{i}, DType::i32, !c.act_order};
  } else if (c.format == PackedFormat::awq_gemm) {
    whole_words("rows", n);
    require(c.group == -1 || i % c.group == 0, Exit::data, "{}: group_size {} does not divide its {} columns", module,
            c.group, i);
    all[names.weight] = {{i, words(n)}};
    all[names.zeros] = {{groups, words(n)}};
    all[names.scales] = {{groups, n}, DType::f32};
  } else {
    check(c.format == PackedFormat::pack_quantized, "tensors of format {}", name_of(c.format));
    all[names.weight] = {{n, words(i)}};
    all[names.scales] = {{n, groups}, DType::f32};
    all[module + ".weight_shape"] = {{2}, DType::i64, true};
    if (!c.symmetric) all[names.zeros] = {{words(n), groups}};
    all[names.g_idx] = {{i}, DType::i32, !c.act_order};
  }
  return all;
}

CodedWeight read_codes(const Checkpoint& checkpoint, const PackedConfig& c, const std::string& module, std::int64_t n,
                       std::int64_t i) {
  const Names names = names_of(c, module);
  const std::int64_t groups = groups_of(c, i);
  const Tensor words = checkpoint.read(names.weight, DType::i32);
  Tensor scales = read_scales(checkpoint, names.scales);
  CodedWeight w;
  w.bits = c.bits;
  if (c.format == PackedFormat::pack_quantized) {
    check_weight_shape(checkpoint, module + ".weight_shape", {n, i});
    w.codes = unpack_rows(words, c.bits, i);
    w.scales = scales;
    Tensor zeros = Tensor::empty(DType::u8, {n, groups});
    if (c.symmetric) {
      std::fill_n(zeros.data<std::uint8_t>(), zeros.numel(), middle(c.bits));
    } else {
      zeros = transpose(unpack_rows(transpose(checkpoint.read(names.zeros, DType::i32)), c.bits, n));
    }
    w.zeros = zeros_of(zeros, c, names.zeros);
  } else {
    const Tensor stored_zeros = unpack_rows(checkpoint.read(names.zeros, DType::i32), c.bits, n);  // [G, N]
    const bool awq = c.format == PackedFormat::awq_gemm;
    w.codes =
        awq ? transpose(awq_deinterleave(unpack_rows(words, c.bits, n))) : unpack_rows(transpose(words), c.bits, i);
    w.scales = transpose(scales);
    w.zeros = zeros_of(transpose(awq ? awq_deinterleave(stored_zeros) : stored_zeros), c, names.zeros);
  }
  w.g_idx = read_g_idx(checkpoint, c, names.g_idx, i, groups);
  return w;
}

Int8Weight read_int8(const Checkpoint& checkpoint, const std::string& module, std::int64_t n, std::int64_t i) {
  Int8Weight w{checkpoint.read(module + ".weight", DType::i8), read_scales(checkpoint, module + ".weight_scale")};
  check(w.codes.shape() == Shape({n, i}), "{}: codes {}", module, to_string(w.codes.shape()));
  w.scales = w.scales.reshape({n});
  return w;
}

std::map<std::string, Tensor> pack(const PackedConfig& c, const std::string& module, const CodedWeight& w,
                                   DType scales) {
  const Names names = names_of(c, module);
  const std::int64_t n = w.codes.rows(), i = w.codes.cols();
  const Tensor zeros = zero_codes(w.zeros, c, module);  // [N, G]
  std::map<std::string, Tensor> out;
  if (c.format == PackedFormat::pack_quantized) {
    out[names.weight] = pack_rows(w.codes, c.bits);
    out[names.scales] = w.scales.to(scales);
    out[module + ".weight_shape"] = Tensor::of<std::int64_t>({n, i}, {2});
    if (!c.symmetric) out[names.zeros] = transpose(pack_rows(transpose(zeros), c.bits));
    if (c.act_order) out[names.g_idx] = w.g_idx;
    return out;
  }
  out[names.scales] = transpose(w.scales.to(scales));
  if (c.format == PackedFormat::awq_gemm) {
    out[names.weight] = pack_rows(awq_interleave(transpose(w.codes)), c.bits);
    out[names.zeros] = pack_rows(awq_interleave(transpose(zeros)), c.bits);
    return out;
  }
  check(is_gptq(c.format), "packing to {}", name_of(c.format));
  if (c.format == PackedFormat::gptq) {
    for (std::uint8_t& z : zeros.span<std::uint8_t>()) --z;
  }
  out[names.weight] = transpose(pack_rows(w.codes, c.bits));
  out[names.zeros] = pack_rows(transpose(zeros), c.bits);
  out[names.g_idx] = w.g_idx;
  return out;
}

std::map<std::string, Tensor> pack(const std::string& module, const Int8Weight& w, DType scales) {
  return {{module + ".weight", w.codes}, {module + ".weight_scale", w.scales.to(scales).reshape({w.codes.rows(), 1})}};
}

Tensor dequantize(const CodedWeight& w) {
  const std::int64_t n = w.codes.rows(), i = w.codes.cols(), groups = w.scales.cols();
  Tensor out = Tensor::empty(DType::f32, {n, i});
  const std::uint8_t* codes = w.codes.data<std::uint8_t>();
  const float *scales = w.scales.data<float>(), *zeros = w.zeros.data<float>();
  const std::int32_t* index = w.g_idx.data<std::int32_t>();
  float* to = out.data<float>();
#pragma omp parallel for schedule(static) if (n * i > worthwhile)
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t k = 0; k < i; ++k) {
      const std::int64_t g = r * groups + index[k];
      to[r * i + k] = scales[g] * (static_cast<float>(codes[r * i + k]) - zeros[g]);
    }
  }
  return out;
}

Tensor dequantize(const Int8Weight& w) {
  const std::int64_t n = w.codes.rows(), i = w.codes.cols();
  Tensor out = Tensor::empty(DType::f32, {n, i});
  const std::int8_t* codes = w.codes.data<std::int8_t>();
  const float* scales = w.scales.data<float>();
  float* to = out.data<float>();
#pragma omp parallel for schedule(static) if (n * i > worthwhile)
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t k = 0; k < i; ++k) to[r * i + k] = static_cast<float>(codes[r * i + k]) * scales[r];
  }
  return out;
}

CodedWeight rows_of(const CodedWeight& w, std::int64_t begin, std::int64_t end) {
  return {w.bits, w.codes.slice_rows(begin, end), w.scales.slice_rows(begin, end), w.zeros.slice_rows(begin, end),
          w.g_idx};
}

Int8Weight rows_of(const Int8Weight& w, std::int64_t begin, std::int64_t end) {
  return {w.codes.slice_rows(begin, end), w.scales.slice_rows(begin, end)};
}

}  // namespace ptq
