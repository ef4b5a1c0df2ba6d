// The intrinsics of a warp by its one primitive.
#include "cuda/simt/block.h"

#include <fmt/format.h>

#include <bit>

namespace simt {

void expect_width(const char* name, int width) {
  if (width < 1 || width > warp_size || !std::has_single_bit(static_cast<unsigned>(width))) {
    Block::current().fault(fmt::format("{} with width {}: powers of two up to 32 are allowed", name, width));
  }
}

void warp_barrier(unsigned mask, const std::source_location& at) {
  warp_collective(
      "__syncwarp", mask, [](void* const(&)[warp_size]) {}, nullptr, at);
}

unsigned ballot(const char* name, unsigned mask, bool predicate, const std::source_location& at) {
  struct Argument {
    bool predicate;
    unsigned result;
  } argument{predicate, 0};
  warp_collective(
      name, mask,
      [](void* const(&all)[warp_size]) {
        unsigned result = 0;
        for (int l = 0; l < warp_size; ++l) {
          if (all[l] != nullptr && static_cast<Argument*>(all[l])->predicate) result |= 1u << l;
        }
        for (void* one : all) {
          if (one != nullptr) static_cast<Argument*>(one)->result = result;
        }
      },
      &argument, at);
  return argument.result;
}

std::uint64_t shuffle(const char* name, unsigned mask, std::uint64_t bits, int source, const std::source_location& at) {
  struct Argument {
    const char* name;
    std::uint64_t bits, result;
    int source;
  } argument{name, bits, 0, source};
  warp_collective(
      name, mask,
      [](void* const(&all)[warp_size]) {
        for (int l = 0; l < warp_size; ++l) {
          if (all[l] == nullptr) continue;
          auto& mine = *static_cast<Argument*>(all[l]);
          const void* from = all[mine.source];
          if (from == nullptr) {
            Block::current().fault(
                fmt::format("{}: lane {} reads lane {}, which the mask leaves out", mine.name, l, mine.source));
          }
          mine.result = static_cast<const Argument*>(from)->bits;
        }
      },
      &argument, at);
  return argument.result;
}

}  // namespace simt
