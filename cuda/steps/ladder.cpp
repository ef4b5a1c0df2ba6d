#include "cuda/steps/ladder.h"

#include "cuda/steps/attention.h"
#include "cuda/steps/gemm.h"
#include "cuda/steps/gptq.h"
#include "host/error.h"

#include <fmt/format.h>

namespace ptq::cuda {

namespace {

// Rungs are for tensor cores' types.
void install_gemm(Launchers& l, decltype(cuda::gemm)* gemm) {
  l.gemm = [gemm](void* y, const GemmShape& g, const float* bias, Stream stream) {
    (g.type == DType::f32 ? gemm_f32 : gemm)(y, g, bias, stream);
  };
}

void install_sweep(Launchers& l, decltype(cuda::gptq_sweep)* sweep) {
  l.gptq_sweep = sweep;
  l.sweep_scratch = gptq_step_scratch;
}

constexpr Rung rungs[] = {
    {"gemm/1-naive", [](Launchers& l) { install_gemm(l, gemm_naive); }},
    {"gemm/2-tiled", [](Launchers& l) { install_gemm(l, gemm_tiled); }},
    {"gemm/3-tensor", [](Launchers& l) { install_gemm(l, gemm_tensor); }},
    {"gemm/4-pipelined", [](Launchers& l) { install_gemm(l, gemm_pipelined); }},
    {"attention/1-naive", [](Launchers& l) { l.attention = attention_naive; }},
    {"attention/2-tiled", [](Launchers& l) { l.attention = attention_tiled; }},
    {"attention/3-tensor", [](Launchers& l) { l.attention = attention_tensor; }},
    {"attention/4-pipelined", [](Launchers& l) { l.attention = attention_pipelined; }},
    {"gptq/1-naive", [](Launchers& l) { install_sweep(l, gptq_sweep_naive); }},
    {"gptq/2-tiled", [](Launchers& l) { install_sweep(l, gptq_sweep_tiled); }},
    {"gptq/3-tensor", [](Launchers& l) { install_sweep(l, gptq_sweep_tensor); }},
    {"gptq/4-pipelined", [](Launchers& l) { install_sweep(l, gptq_sweep_pipelined); }},
};

}  // namespace

std::span<const Rung> ladder() { return rungs; }

Launchers launchers_with(std::string_view rung) {
  Launchers launchers;
  if (rung.empty()) return launchers;
  for (const Rung& r : rungs) {
    if (r.name != rung) continue;
    r.install(launchers);
    return launchers;
  }
  fail(Exit::usage, "there is no step {} of the ladder; see ptq bench --list", rung);
}

}  // namespace ptq::cuda
