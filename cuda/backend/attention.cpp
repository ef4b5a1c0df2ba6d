// Attention: checks, and the list of work of its kernels.
#include "cuda/attention.h"
#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

#include <algorithm>
#include <limits>

namespace ptq::cuda {

namespace {

AttentionForm form_of(const AttentionSpec& a) {
  constexpr float log2_e = 1.44269504f;
  const bool capped = a.soft_cap > 0.0f;
  return {.kv_heads = a.kv_heads,
          .group = a.heads / a.kv_heads,
          .head_dim = a.head_dim,
          .q_width = a.heads * a.head_dim,
          .kv_width = a.kv_heads * a.head_dim,
          .window = a.window > 0 ? a.window : std::numeric_limits<int>::max(),
          .factor = (capped ? a.soft_cap : a.scale) * log2_e,
          .inner = capped ? a.scale / a.soft_cap : 0.0f};
}

// The rows of all segments, the last `rows` of `tokens`, in tiles.
struct Work {
  std::vector<QueryTile> tiles;
  double pairs = 0;  // (token, key) pairs that are seen
};

Work plan(std::span<const Segment> segments, std::int64_t rows, std::int64_t tokens, const AttentionSpec& a) {
  const std::int32_t group = a.heads / a.kv_heads, skipped = static_cast<std::int32_t>(tokens - rows);
  // Keys that the tokens at positions 0 .. n-1 see.
  const auto seen = [&](double n) {
    const double w = a.window > 0 ? std::min<double>(n, a.window) : n;
    return w * (w + 1) / 2 + (n - w) * w;
  };
  Work work;
  for (const Segment& s : segments) {
    const Segment prefix = s.prefix < 0 ? Segment{} : segments[static_cast<std::size_t>(s.prefix)];
    const std::int32_t before = prefix.end - prefix.begin, own = s.begin - before;
    const std::int32_t begin = std::max(s.begin, skipped);
    const std::int64_t count = std::int64_t{std::max(0, s.end - begin)} * group;
    for (std::int64_t r = 0; r < count; r += attention_rows) {
      const std::int32_t token = begin + static_cast<std::int32_t>(r / group);
      work.tiles.push_back({static_cast<std::int32_t>(std::min<std::int64_t>(attention_rows, count - r)),
                            token - skipped, static_cast<std::int32_t>(r % group), token - own, before, prefix.begin,
                            own});
    }
    if (count > 0) work.pairs += seen(s.end - own) - seen(begin - own);
  }
  // Blocks start in this order: the longest first, so that none of them ends the kernel alone.
  const auto length = [&](const QueryTile& t) { return a.window > 0 ? std::min(t.position, a.window) : t.position; };
  std::stable_sort(work.tiles.begin(), work.tiles.end(),
                   [&](const QueryTile& x, const QueryTile& y) { return length(x) > length(y); });
  return work;
}

}  // namespace

void CudaOps::attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                        std::span<const Segment> segments, const AttentionSpec& spec) {
  op_checks::attention(o, q, k, v, segments, spec);
  check(spec.head_dim <= attention_head_max, "attention: heads of {}", spec.head_dim);
  Work work = plan(segments, q.rows(), k.rows(), spec);
  if (work.tiles.empty()) return;
  const auto count = static_cast<std::int64_t>(work.tiles.size());
  if (work.tiles != tiles_) {  // all layers of a batch have the same
    constexpr std::int64_t words = sizeof(QueryTile) / sizeof(std::int32_t);
    device_tiles_ = to_device(Tensor::wrap(DType::i32, {count, words}, work.tiles.data(), {}));
    tiles_ = std::move(work.tiles);
  }
  const AttentionWork device{form_of(spec),
                             reinterpret_cast<const QueryTile*>(device_data<std::int32_t>(device_tiles_)), count,
                             4.0 * spec.heads * spec.head_dim * work.pairs,
                             static_cast<double>(o.bytes() + q.bytes() + k.bytes() + v.bytes())};
  if (q.dtype() == DType::f32) {
    attention_f32(device_data<float>(o), device_data<float>(q), device_data<float>(k), device_data<float>(v), device,
                  stream_);
  } else {
    launchers_.attention(device_raw(o), device_raw(q), device_raw(k), device_raw(v), q.dtype(), device, stream_);
  }
}

}  // namespace ptq::cuda
