#include "host/cpu/packed_weight.h"

#include "host/cpu/int8.h"
#include "host/cpu/simd.h"

#include <cstring>
#include <map>

namespace ptq {

namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& stream() {
  static thread_local dnnl::stream s(engine());
  return s;
}

unsigned isa() { return static_cast<unsigned>(dnnl::get_effective_cpu_isa()); }

memory::data_type dnnl_type(DType t) {
  switch (t) {
    case DType::f32:
      return memory::data_type::f32;
    case DType::bf16:
      return memory::data_type::bf16;
    default:
      return memory::data_type::s8;
  }
}

memory wrap(const memory::desc& desc, const void* data) { return {desc, engine(), const_cast<void*>(data)}; }

// Runs f with library calls restricted to one thread; the library bakes the number of threads into primitives.
template <class F>
auto single_threaded(F&& f) {
  const SingleThreaded single;
  try {
    return f();
  } catch (const dnnl::error& e) {
    require(e.status != dnnl_out_of_memory, Exit::again, "out of memory in a matrix product");
    fail(Exit::internal, "oneDNN: {}", e.what());
  }
}

std::shared_ptr<const Product> make_product(std::int64_t i, std::int64_t width, DType operand) {
  const auto type = dnnl_type(operand);
  const auto sums = operand == DType::i8 ? memory::data_type::s32 : memory::data_type::f32;
  const memory::desc x({row_tile, i}, type, memory::dims{i, 1});
  const memory::desc w({i, width}, type, memory::format_tag::any);
  const memory::desc c({row_tile, width}, sums, memory::dims{width, 1});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(x, w, c), attr, engine());
  return std::make_shared<const Product>(
      Product{dnnl::matmul(pd), pd.src_desc(), pd.weights_desc(), pd.dst_desc(), pd.scratchpad_desc()});
}

// Panels of equal width, a multiple of 64, at most 512.
std::vector<Panel> split(std::int64_t n) {
  constexpr std::int64_t most = 512, unit = 64;
  const std::int64_t count = (n + most - 1) / most;
  const std::int64_t width = ((n + count - 1) / count + unit - 1) / unit * unit;
  std::vector<Panel> panels;
  for (std::int64_t begin = 0; begin < n; begin += width) {
    Panel panel;
    panel.begin = begin;
    panel.width = std::min(width, n - begin);
    panels.push_back(std::move(panel));
  }
  return panels;
}

void quantize_weight_row(const Tensor& w, std::int64_t row, std::int8_t* codes, float& scale) {
  const std::int64_t n = w.cols();
  float* x = scratch<float>(0, static_cast<std::size_t>(n));
  simd::dispatch(w.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    simd::to_floats(w.data<T>() + row * n, x, n);
  });
  scale = quantize_int8_row(x, n, codes);
}

void reorder(const memory& from, const memory& to) {
  dnnl::reorder(from, to).execute(stream(), const_cast<memory&>(from), const_cast<memory&>(to));
  stream().wait();
}

}  // namespace

bool has_bf16_products() { return (isa() & 0x80u) != 0; }
bool has_int8_products() { return (isa() & 0x40u) != 0; }

std::string cpu_description() {
  const dnnl_version_t& v = *dnnl_version();
  const char* name = "sse41 or avx";
  if ((isa() & 0x7u) == 0x7u) name = "avx2";
  if ((isa() & 0x407u) == 0x407u) name = "avx2_vnni";
  if ((isa() & 0x20u) != 0) name = "avx512_core";
  if ((isa() & 0x67u) == 0x67u) name = "avx512_core_vnni";
  if ((isa() & 0xe7u) == 0xe7u) name = "avx512_core_bf16";
  if ((isa() & 0x3e7u) == 0x3e7u) name = "avx512_core_amx";
  return fmt::format("oneDNN {}.{}.{}, {}{}", v.major, v.minor, v.patch, name,
                     has_bf16_products() ? "" : ", bf16 multiplied in fp32");
}

PackedWeight::PackedWeight(const Tensor& w, WeightFormat format, int threads)
    : n_(w.rows()), i_(w.cols()), format_(format), panels_(split(w.rows())) {
  check(w.rank() == 2 && n_ > 0 && i_ > 0, "pack: weight of shape {}", to_string(w.shape()));
  // 255 * 127 * 65536 < 2^31: the library shifts one operand to unsigned.
  check(format != WeightFormat::s8 || i_ <= 65536, "pack: {} int8 columns may overflow 32-bit sums", i_);
  if (format == WeightFormat::s8) operand_ = DType::i8;
  if (format == WeightFormat::bf16 && has_bf16_products()) operand_ = DType::bf16;
  expanded_ = format == WeightFormat::f16 || (format == WeightFormat::bf16 && operand_ == DType::f32);
  if (format == WeightFormat::s8) scales_.resize(static_cast<std::size_t>(n_));
  std::map<std::int64_t, std::shared_ptr<const Product>> by_width;
  for (Panel& panel : panels_) {
    if (format == WeightFormat::s8 && !has_int8_products()) continue;
    auto& known = by_width[panel.width];
    if (!known) known = single_threaded([&] { return make_product(i_, panel.width, operand_); });
    panel.product = known;
  }
  parallel_for(threads, static_cast<std::int64_t>(panels_.size()), [&](std::int64_t p) {
    Panel& panel = panels_[static_cast<std::size_t>(p)];
    if (panel.product) {
      single_threaded([&] { pack(panel, w); });
    } else {
      pack_rows(panel, w);
    }
  });
}

std::size_t PackedWeight::bytes() const {
  const std::size_t element = expanded_ ? 2 : size_of(operand_);
  std::size_t sum = format_ == WeightFormat::s8 ? static_cast<std::size_t>(n_) * sizeof(float) : 0;
  for (const Panel& panel : panels_) sum += static_cast<std::size_t>(panel.elements) * element;
  return sum;
}

void PackedWeight::pack_rows(Panel& panel, const Tensor& w) {
  panel.elements = panel.width * i_;
  panel.data.resize(static_cast<std::size_t>(panel.elements));
  auto* codes = reinterpret_cast<std::int8_t*>(panel.data.data());
  for (std::int64_t r = 0; r < panel.width; ++r) {
    quantize_weight_row(w, panel.begin + r, codes + r * i_, scales_[panel.begin + r]);
  }
}

void PackedWeight::pack(Panel& panel, const Tensor& w) {
  // The library may append compensation terms to the blocked layout, so its size is asked for, not computed.
  const std::size_t size = panel.product->weights.get_size();
  panel.elements = static_cast<std::int64_t>(size / size_of(operand_));
  const Tensor rows = w.slice_rows(panel.begin, panel.begin + panel.width);
  const memory::desc plain({i_, panel.width}, dnnl_type(operand_), memory::dims{1, i_});
  if (format_ == WeightFormat::s8) {
    Buffer<std::int8_t> codes(static_cast<std::size_t>(panel.width * i_));
    for (std::int64_t r = 0; r < panel.width; ++r) {
      quantize_weight_row(rows, r, codes.data() + r * i_, scales_[panel.begin + r]);
    }
    panel.data.resize(size);
    std::memset(panel.data.data(), 0, size);
    reorder(wrap(plain, codes.data()), wrap(panel.product->weights, panel.data.data()));
    return;
  }
  const Tensor converted = format_ == WeightFormat::f16    ? rows.to(DType::f16).to(operand_)
                           : format_ == WeightFormat::bf16 ? rows.to(DType::bf16).to(operand_)
                                                           : rows.to(operand_);
  if (!expanded_) {
    panel.data.resize(size);
    std::memset(panel.data.data(), 0, size);
    reorder(wrap(plain, converted.raw()), wrap(panel.product->weights, panel.data.data()));
    return;
  }
  Buffer<float> blocked(static_cast<std::size_t>(panel.elements));
  std::memset(blocked.data(), 0, size);
  reorder(wrap(plain, converted.raw()), wrap(panel.product->weights, blocked.data()));
  panel.data.resize(static_cast<std::size_t>(panel.elements) * 2);
  if (format_ == WeightFormat::f16) {
    simd::from_floats(blocked.data(), reinterpret_cast<f16*>(panel.data.data()), panel.elements);
  } else {
    simd::from_floats(blocked.data(), reinterpret_cast<bf16*>(panel.data.data()), panel.elements);
  }
}

void PackedWeight::expand(const Panel& panel, float* to, std::int64_t begin, std::int64_t end) const {
  if (format_ == WeightFormat::f16) {
    simd::to_floats(reinterpret_cast<const f16*>(panel.data.data()) + begin, to + begin, end - begin);
  } else {
    simd::to_floats(reinterpret_cast<const bf16*>(panel.data.data()) + begin, to + begin, end - begin);
  }
}

void PackedWeight::multiply(const Panel& panel, const void* x, const void* weights, void* c) const {
  if (!panel.product) {
    const auto* a = static_cast<const std::int8_t*>(x);
    const auto* b = static_cast<const std::int8_t*>(weights);
    for (std::int64_t t = 0; t < row_tile; ++t) {
      for (std::int64_t n = 0; n < panel.width; ++n) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < i_; ++k) sum += a[t * i_ + k] * b[n * i_ + k];
        static_cast<std::int32_t*>(c)[t * panel.width + n] = sum;
      }
    }
    return;
  }
  const Product& product = *panel.product;
  std::byte* work = scratch<std::byte>(0, product.scratchpad.get_size());
  try {
    product.run.execute(stream(), {{DNNL_ARG_SRC, wrap(product.x, x)},
                                   {DNNL_ARG_WEIGHTS, wrap(product.weights, weights)},
                                   {DNNL_ARG_DST, wrap(product.c, c)},
                                   {DNNL_ARG_SCRATCHPAD, wrap(product.scratchpad, work)}});
    stream().wait();
  } catch (const dnnl::error& e) {
    fail(Exit::internal, "oneDNN: {}", e.what());
  }
}

const PackedWeight& packed(const Weight& w) {
  const auto* p = dynamic_cast<const PackedWeight*>(&w);
  check(p != nullptr, "the weight belongs to another backend");
  return *p;
}

}  // namespace ptq
