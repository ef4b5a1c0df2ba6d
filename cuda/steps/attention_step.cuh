// How the steps of attention are launched: a block for every (tile of rows, key/value head), and the head size as a
// template argument, because arrays in registers have lengths that the compiler knows.
#pragma once

#include "cuda/attention.h"
#include "cuda/launch.cuh"

#include <type_traits>

namespace ptq::cuda {

inline LaunchSpec attention_launch(const AttentionWork& work, int threads, std::size_t smem, Stream stream) {
  return {.grid = static_cast<unsigned>(work.count * work.form.kv_heads),
          .block = static_cast<unsigned>(threads),
          .smem = smem,
          .stream = stream,
          .flops = work.flops,
          .bytes = work.bytes};
}

// f(std::integral_constant<int, P>) for the smallest P that holds a head of C elements.
template <class F>
void visit_step_head(int C, F&& f) {
  if (C <= 32) return f(std::integral_constant<int, 32>{});
  if (C <= 64) return f(std::integral_constant<int, 64>{});
  if (C <= 128) return f(std::integral_constant<int, 128>{});
  return f(std::integral_constant<int, attention_head_max>{});
}

}  // namespace ptq::cuda
