// AWQ's clip search (spec B.6; llm-awq auto_clip.py). For a row's group w, tokens X [S, g] and each candidate c
//     err(c) = |X d|^2,   d = Q(clamp(w, -c, c)) - w
// which is d^T (X^T X) d: g^2 flops a candidate instead of 2 S g, with the Gram matrix formed once for all rows (and S
// g^2 flops for that). The ten candidates of `row_batch` rows are the rows of one product.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/quadratic_form.h"
#include "host/cpu/row_grid.h"
#include "host/op_checks.h"

#include <array>
#include <limits>

namespace ptq {

namespace {

constexpr int candidates = 10;           // c = absmax (1 - i / 20), i = 0..9
constexpr std::int64_t row_batch = 24;   // rows whose candidates are multiplied together
constexpr std::int64_t row_chunk = 192;  // rows of a task
constexpr std::int64_t token_block = 128;

// The squared errors of a group's candidates, |X d|^2 for every row d.
class GroupError {
 public:
  virtual ~GroupError() = default;
  // error[r] for m rows of `width` floats.
  virtual void of(const float* d, std::int64_t m, double* error) const = 0;
};

// Through the Gram matrix of the group's tokens, in the packed blocks of for_form_blocks. For width <= tokens.
class GramError final : public GroupError {
 public:
  GramError(const Tensor& x, std::int64_t first, std::int64_t width) : width_(width) {
    const std::int64_t tokens = x.rows(), ldx = x.cols();
    const float* from = x.data<float>() + first;
    Buffer<float> slice(static_cast<std::size_t>(tokens * width));
    for (std::int64_t t = 0; t < tokens; ++t) std::copy_n(from + t * ldx, width, slice.data() + t * width);
    Buffer<float> gram(static_cast<std::size_t>(width * width));
    std::fill_n(gram.data(), width * width, 0.0f);
    for (std::int64_t t = 0; t < tokens; t += token_block) {  // short fp32 chains
      const float* rows = slice.data() + t * width;
      const TileOperands<float, float> operands{gram.data(), width, rows, width, rows, width};
      tile_product<Left::columns, Into::add>(operands, width, width, std::min(token_block, tokens - t));
    }
    std::size_t size = 0;
    for_blocks([&](const FormBlock& b) { size += b.size(); });
    packed_.resize(size);
    float* to = packed_.data();
    for_blocks([&](const FormBlock& b) {
      pack_form_block(b, gram.data(), width, to);
      to += b.size();
    });
  }

  void of(const float* d, std::int64_t m, double* error) const override {
    std::fill_n(error, m, 0.0);
    const float* packed = packed_.data();
    for_blocks([&](const FormBlock& b) {
      add_form_block(b, packed, d, width_, m, error);
      packed += b.size();
    });
  }

 private:
  template <class F>
  void for_blocks(F&& f) const {
    for (std::int64_t p = 0; p * form_columns < width_; ++p) for_form_blocks(p, width_, f);
  }

  std::int64_t width_;
  Buffer<float> packed_;
};

// Token by token, for groups wider than there are tokens.
class TokenError final : public GroupError {
 public:
  TokenError(const Tensor& x, std::int64_t first, std::int64_t width)
      : width_(width),
        panels_((x.rows() + panel - 1) / panel),
        packed_(static_cast<std::size_t>(panels_ * width * panel)) {
    const float* from = x.data<float>() + first;
    std::fill_n(packed_.data(), panels_ * width * panel, 0.0f);
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      float* to = packed_.data() + t / panel * width * panel + t % panel;
      for (std::int64_t i = 0; i < width; ++i) to[i * panel] = from[t * x.cols() + i];
    }
  }

  void of(const float* d, std::int64_t m, double* error) const override {
    alignas(64) float product[row_batch * candidates * panel];
    std::fill_n(error, m, 0.0);
    for (std::int64_t p = 0; p < panels_; ++p) {
      const float* tokens = packed_.data() + p * width_ * panel;
      tile_product<Left::rows, Into::assign>(TileOperands<float, float>{product, panel, d, width_, tokens, panel}, m,
                                             panel, width_);
      for (std::int64_t i = 0; i < m * panel; ++i) error[i / panel] += double{product[i]} * product[i];
    }
  }

 private:
  static constexpr std::int64_t panel = 64;  // tokens side by side; missing ones are zero
  std::int64_t width_, panels_;
  Buffer<float> packed_;  // [panel][i][64]
};

std::unique_ptr<const GroupError> group_error(const Tensor& x, std::int64_t first, std::int64_t width) {
  if (width <= x.rows()) return std::make_unique<const GramError>(x, first, width);
  return std::make_unique<const TokenError>(x, first, width);
}

using Clips = std::array<float, candidates>;

Clips clips_of(float absmax) {
  Clips c;
  for (int i = 0; i < candidates; ++i) {
    c[static_cast<std::size_t>(i)] = absmax * static_cast<float>(1.0 - static_cast<double>(i) / 20.0);
  }
  return c;
}

// d = Q(clamp(w, -c, c)) - w
void clipped_error(float* d, const float* w, std::int64_t n, ValueRange range, float c, const GridSpec& spec) {
  const GridPoint g = grid_of_range(std::clamp(range.lo, -c, c), std::clamp(range.hi, -c, c), spec);
  const auto levels = static_cast<float>(spec.levels());
  for (std::int64_t i = 0; i < n; ++i) d[i] = value_of(code_of(std::clamp(w[i], -c, c), g, levels), g) - w[i];
}

struct Search {
  float* clip;
  const float* w;
  std::int64_t rows, columns, group;
  GridSpec grid;
};

// The clips of up to row_batch rows from `first` in one group.
void search_rows(const Search& s, const GroupError& group, std::int64_t g, std::int64_t first, std::int64_t count) {
  float* d = scratch<float>(0, static_cast<std::size_t>(row_batch * candidates * s.group));
  double error[row_batch * candidates];
  Clips clips[row_batch];
  for (std::int64_t r = 0; r < count; ++r) {
    const float* w = s.w + (first + r) * s.columns + g * s.group;
    const ValueRange range = range_of(w, s.group);
    clips[r] = clips_of(std::max(std::fabs(range.lo), std::fabs(range.hi)));
    for (std::size_t i = 0; i < candidates; ++i) {
      const auto row = r * candidates + static_cast<std::int64_t>(i);
      clipped_error(d + row * s.group, w, s.group, range, clips[r][i], s.grid);
    }
  }
  group.of(d, count * candidates, error);
  for (std::int64_t r = 0; r < count; ++r) {
    const double* e = error + r * candidates;
    std::size_t best = 0;
    for (std::size_t i = 1; i < candidates; ++i) best = e[i] < e[best] ? i : best;
    s.clip[(first + r) * (s.columns / s.group) + g] = clips[r][best];
  }
}

}  // namespace

void CpuOps::clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                         std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = w.cols(), width = group < 0 ? columns : group;
  op_checks::clip_search(clip, w, x, grid, group);
  const std::int64_t groups = columns / width, chunks = (rows + row_chunk - 1) / row_chunk;
  const Search search{clip.data<float>(), w.data<float>(), rows, columns, width, grid};
  std::vector<std::unique_ptr<const GroupError>> errors(static_cast<std::size_t>(groups));
  parallel_for(threads_, groups,
               [&](std::int64_t g) { errors[static_cast<std::size_t>(g)] = group_error(x, g * width, width); });
  parallel_for(threads_, groups * chunks, [&](std::int64_t task) {
    const std::int64_t g = task / chunks, begin = task % chunks * row_chunk, end = std::min(rows, begin + row_chunk);
    for (std::int64_t r = begin; r < end; r += row_batch) {
      search_rows(search, *errors[static_cast<std::size_t>(g)], g, r, std::min(row_batch, end - r));
    }
  });
}

}  // namespace ptq
