// The pure product time of a forward pass or of GPTQ: what the matrix products alone cost when oneDNN runs them with
// all threads, its own weight layout and nothing in between. docs/performance.md divides the program's time by it.
//
//   ptq_products MODEL --dtype fp32|bf16 --seqlen 2048              one perplexity window
//   ptq_products MODEL --dtype fp32|bf16 --seqlen 512 --gptq 16     GPTQ on 16 windows
//   ptq_products MODEL --dtype fp32|bf16 --seqlen 512 --awq 16      AWQ on 16 windows, groups of 64 columns
#include "model/weights.h"

#include <lapacke.h>
#include <dnnl.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstring>
#include <functional>
#include <map>

namespace ptq {
namespace {

using dnnl::memory;
using Dims = memory::dims;

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

// Random values: zeros would flatter the clock.
memory filled(const memory::desc& desc) {
  memory m(desc, engine());
  std::uint64_t state = 88172645463325252ull;
  auto* bytes = static_cast<std::uint16_t*>(m.get_data_handle());
  const bool wide = desc.data_type() == memory::data_type::f32;
  for (std::size_t i = 0; i < desc.get_size() / (wide ? 4 : 2); ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const float value = static_cast<float>(state >> 40) / 16777216.0f - 0.5f;
    if (wide)
      reinterpret_cast<float*>(bytes)[i] = value;
    else
      bytes[i] = to_bf16(value).bits;
  }
  return m;
}

double best_of(int runs, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Seconds of one product a [.., M, K] x b [.., K, N] with weights in the library's layout, output in `out` type.
double product_seconds(const Dims& a, const Dims& b, memory::data_type type, memory::data_type out) {
  static std::map<std::tuple<Dims, Dims, int, int>, double> measured;
  const auto key = std::tuple(a, b, static_cast<int>(type), static_cast<int>(out));
  if (auto it = measured.find(key); it != measured.end()) return it->second;
  const auto plain = a.size() == 3 ? memory::format_tag::abc : memory::format_tag::ab;
  Dims c = a;
  c.back() = b.back();
  dnnl::primitive_attr attributes;
  const memory::desc ad(a, type, plain), bd(b, type, a.size() == 3 ? plain : memory::format_tag::any),
      cd(c, out, plain);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(ad, bd, cd), attributes, engine());
  dnnl::matmul primitive(pd);
  dnnl::stream stream(engine());
  const memory am = filled(ad), bm = filled(pd.weights_desc()), cm = filled(cd);
  const double seconds = best_of(5, [&] {
    primitive.execute(stream, {{DNNL_ARG_SRC, am}, {DNNL_ARG_WEIGHTS, bm}, {DNNL_ARG_DST, cm}});
    stream.wait();
  });
  return measured[key] = seconds;
}

struct Timing {
  double linear = 0, head = 0, attention = 0, hessian = 0, factor = 0, sweep = 0;
};

Timing forward(const ModelFiles& files, std::int64_t tokens, memory::data_type type) {
  const ModelConfig& c = files.config();
  Timing t;
  for (int layer = 0; layer < c.layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (!files.has_linear(role)) continue;
      const bool mlp = role == LinearRole::gate || role == LinearRole::up || role == LinearRole::down;
      const std::int64_t in = role == LinearRole::o ? c.q_width() : role == LinearRole::down ? c.ffn : c.width;
      const std::int64_t out = role == LinearRole::q                            ? c.q_width()
                               : role == LinearRole::k || role == LinearRole::v ? c.kv_width()
                               : mlp && role != LinearRole::down                ? c.ffn
                                                                                : c.width;
      t.linear += product_seconds({tokens, in}, {in, out}, type, type);
    }
    // Causal attention in query blocks of 256: scores and values up to the block's last key.
    constexpr std::int64_t block = 256;
    for (std::int64_t begin = 0; begin < tokens; begin += block) {
      const std::int64_t queries = std::min(block, tokens - begin), keys = begin + queries;
      t.attention +=
          product_seconds({c.heads, queries, c.head_dim}, {c.heads, c.head_dim, keys}, type, memory::data_type::f32);
      t.attention += product_seconds({c.heads, queries, keys}, {c.heads, keys, c.head_dim}, type, type);
    }
  }
  constexpr std::int64_t rows = 256;  // the head in row blocks, so that [T,V] need not exist
  t.head = static_cast<double>(tokens) / rows *
           product_seconds({rows, c.embed_width}, {c.embed_width, c.vocab}, type, memory::data_type::f32);
  return t;
}

// Symmetric Hessian updates (half a product), one Cholesky and one triangular inverse per distinct input, and the
// column sweep's N K^2 operations at the rate of a product.
void add_gptq(Timing& t, const ModelFiles& files, std::int64_t tokens, memory::data_type type) {
  const ModelConfig& c = files.config();
  const auto f32 = memory::data_type::f32;
  const auto factor_seconds = [](std::int64_t n) {
    static std::map<std::int64_t, double> measured;
    if (auto it = measured.find(n); it != measured.end()) return it->second;
    std::vector<float> h(static_cast<std::size_t>(n * n));
    const double seconds = best_of(3, [&] {
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j)
          h[static_cast<std::size_t>(i * n + j)] = i == j ? static_cast<float>(n) : 0.5f;
      }
      const auto order = static_cast<lapack_int>(n);
      LAPACKE_spotrf(LAPACK_ROW_MAJOR, 'L', order, h.data(), order);
      LAPACKE_strtri(LAPACK_ROW_MAJOR, 'L', 'N', order, h.data(), order);
    });
    return measured[n] = seconds;
  };
  for (int layer = 0; layer < c.layers; ++layer) {
    for (std::int64_t in : {c.width, c.q_width(), c.width, c.ffn}) {
      t.hessian += 0.5 * product_seconds({in, tokens}, {tokens, in}, type, f32);
      t.factor += factor_seconds(in);
    }
    for (const auto& [out, in] : {std::pair{c.q_width() + 2 * c.kv_width(), c.width}, std::pair{c.width, c.q_width()},
                                  std::pair{(c.gated ? 2 : 1) * c.ffn, c.width}, std::pair{c.width, c.ffn}})
      t.sweep += 0.5 * product_seconds({out, in}, {in, in}, f32, f32);
  }
}

// A gated, serial block (Llama): attention and MLP once in full precision and for each of 20 ratios; for linears that
// are searched alone half a product for their Gram matrix and half of one for each quadratic form d G d^T; for the clip
// search ten quadratic forms per row and group.
void add_awq(Timing& t, const ModelFiles& files, std::int64_t windows, std::int64_t seqlen, memory::data_type type) {
  const ModelConfig& c = files.config();
  const auto f32 = memory::data_type::f32;
  constexpr std::int64_t ratios = 20, candidates = 10, group = 64, clip_tokens = 512;
  t.linear *= static_cast<double>((1 + ratios) * windows);
  t.attention *= static_cast<double>((1 + ratios) * windows);
  t.head = 0;
  const std::int64_t tokens = windows * seqlen;
  std::vector<std::int64_t> alone{c.ffn};
  if (c.heads == c.kv_heads) alone.push_back(c.q_width());
  for (int layer = 0; layer < c.layers; ++layer) {
    for (const std::int64_t in : alone) {
      t.hessian += 0.5 * product_seconds({in, tokens}, {tokens, in}, type, f32);
      t.sweep += 0.5 * ratios * product_seconds({c.width, in}, {in, in}, f32, f32);
    }
    for (const auto& [out, in] :
         {std::pair{c.kv_width() + 2 * c.ffn, c.width}, std::pair{c.width, c.q_width()}, std::pair{c.width, c.ffn}}) {
      t.sweep += static_cast<double>(in / group) *
                 (product_seconds({group, clip_tokens}, {clip_tokens, group}, f32, f32) +
                  0.5 * candidates * product_seconds({out, group}, {group, group}, f32, f32));
    }
  }
}

int run(int argc, char** argv) {
  std::int64_t seqlen = 2048, gptq = 0, awq = 0;
  std::string dtype = "fp32";
  for (int i = 2; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--seqlen")) seqlen = std::stoll(argv[i + 1]);
    if (!std::strcmp(argv[i], "--gptq")) gptq = std::stoll(argv[i + 1]);
    if (!std::strcmp(argv[i], "--awq")) awq = std::stoll(argv[i + 1]);
    if (!std::strcmp(argv[i], "--dtype")) dtype = argv[i + 1];
  }
  require(argc >= 2, Exit::usage,
          "usage: ptq_products MODEL [--dtype fp32|bf16] [--seqlen T] [--gptq WINDOWS | --awq WINDOWS]");
  const ModelFiles files = ModelFiles::open(argv[1]);
  const auto type = dtype == "bf16" ? memory::data_type::bf16 : memory::data_type::f32;
  Timing t = forward(files, seqlen, type);
  if (gptq > 0) {
    t.linear *= static_cast<double>(gptq);
    t.attention *= static_cast<double>(gptq);
    t.head = 0;
    add_gptq(t, files, gptq * seqlen, type);
  }
  if (awq > 0) add_awq(t, files, awq, seqlen, type);
  const nlohmann::json out = {{"dtype", dtype},
                              {"seqlen", seqlen},
                              {"windows", std::max<std::int64_t>({gptq, awq, 1})},
                              {"linear", t.linear},
                              {"head", t.head},
                              {"attention", t.attention},
                              {"hessian", t.hessian},
                              {"factor", t.factor},
                              {"sweep", t.sweep},
                              {"seconds", t.linear + t.head + t.attention + t.hessian + t.factor + t.sweep}};
  fmt::print("{}\n", out.dump());
  return 0;
}

}  // namespace
}  // namespace ptq

int main(int argc, char** argv) {
  try {
    return ptq::run(argc, argv);
  } catch (const ptq::Error& e) {
    fmt::print(stderr, "ptq_products: {}\n", e.what());
    return static_cast<int>(e.code());
  }
}
