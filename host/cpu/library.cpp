#include "host/cpu/library.h"

#include "host/cpu/parallel.h"

#include <fmt/format.h>

#include <cstring>

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
void single_threaded(F&& f) {
  const SingleThreaded single;
  try {
    f();
  } catch (const dnnl::error& e) {
    require(e.status != dnnl_out_of_memory, Exit::again, "out of memory in a matrix product");
    fail(Exit::internal, "oneDNN: {}", e.what());
  }
}

// Offsets along dimension `d`: outer blocks by stride, then the inner blocks, the last of which is contiguous.
std::vector<std::int64_t> offsets(const dnnl_memory_desc_t& desc, int d) {
  const dnnl_blocking_desc_t& blocks = desc.format_desc.blocking;
  std::vector<std::int64_t> at(static_cast<std::size_t>(desc.padded_dims[d]));
  for (std::size_t i = 0; i < at.size(); ++i) {
    auto rest = static_cast<std::int64_t>(i);
    std::int64_t stride = 1;
    for (int b = blocks.inner_nblks - 1; b >= 0; --b) {
      const std::int64_t block = blocks.inner_blks[b];
      if (blocks.inner_idxs[b] == d) {
        at[i] += rest % block * stride;
        rest /= block;
      }
      stride *= block;
    }
    at[i] += rest * blocks.strides[d];
  }
  return at;
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

Product::Product(std::int64_t rows, std::int64_t i, std::int64_t width, DType operand, const Product* same_weights) {
  single_threaded([&] {
    const auto type = dnnl_type(operand);
    const auto sums = operand == DType::i8 ? memory::data_type::s32 : memory::data_type::f32;
    const memory::desc x({rows, i}, type, memory::dims{i, 1});
    const memory::desc w =
        same_weights ? same_weights->weights_ : memory::desc({i, width}, type, memory::format_tag::any);
    const memory::desc c({rows, width}, sums, memory::dims{width, 1});
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(x, w, c), attr, engine());
    matmul_ = dnnl::matmul(pd);
    x_ = pd.src_desc();
    weights_ = pd.weights_desc();
    c_ = pd.dst_desc();
    scratchpad_ = pd.scratchpad_desc();
    plain_ = memory::desc({i, width}, type, memory::dims{1, i});
  });
  check(weights_.data.format_kind == dnnl_blocked && weights_.data.offset0 == 0, "oneDNN: an opaque weight layout");
  layout_ = {offsets(weights_.data, 0), offsets(weights_.data, 1)};
}

void Product::reorder(const void* rows, void* weights) const {
  std::memset(weights, 0, weight_bytes());
  single_threaded([&] {
    memory from = wrap(plain_, rows), to = wrap(weights_, weights);
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
  });
}

void Product::run(const void* x, const void* weights, void* c) const {
  std::byte* work = scratch<std::byte>(0, scratchpad_.get_size());
  try {
    matmul_.execute(stream(), {{DNNL_ARG_SRC, wrap(x_, x)},
                               {DNNL_ARG_WEIGHTS, wrap(weights_, weights)},
                               {DNNL_ARG_DST, wrap(c_, c)},
                               {DNNL_ARG_SCRATCHPAD, wrap(scratchpad_, work)}});
    stream().wait();
  } catch (const dnnl::error& e) {
    fail(Exit::internal, "oneDNN: {}", e.what());
  }
}

}  // namespace ptq
