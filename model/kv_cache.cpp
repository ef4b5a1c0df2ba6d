// Decoding: the forward pass of a sequence's next tokens against the keys and values of the tokens before.
#include "model/kv_cache.h"

#include "host/range.h"
#include "model/transformer.h"

#include <cmath>

namespace ptq {

KvCache Transformer::make_cache(std::int64_t capacity) const {
  require(capacity > 0, Exit::usage, "a cache for {} tokens; ask for at least one", capacity);
  KvCache cache;
  cache.capacity = capacity;
  for (int i = 0; i < config().layers; ++i) {
    cache.k.push_back(ops_.empty(compute_, {capacity, config().kv_width()}));
    cache.v.push_back(ops_.empty(compute_, {capacity, config().kv_width()}));
  }
  return cache;
}

Tensor Transformer::forward_cached(std::span<const std::int32_t> ids, KvCache& cache) const {
  const std::int64_t before = cache.length(), rows = static_cast<std::int64_t>(ids.size()), total = before + rows;
  require(total <= cache.capacity, Exit::data, "a sequence of {} tokens exceeds the cache of {}", total,
          cache.capacity);
  if (before > 0 && !same_rope(before, total)) {
    // Cached keys were turned by other frequencies: everything anew.
    std::vector<std::int32_t> all = std::move(cache.ids);
    cache.ids.clear();
    all.insert(all.end(), ids.begin(), ids.end());
    return forward_cached(all, cache).slice_rows(before, total);
  }
  Batch batch;
  batch.append(ids);
  Stream s = embed_after(std::move(batch), before);
  s.cache = &cache;
  run_blocks(s, nullptr);
  cache.ids.insert(cache.ids.end(), ids.begin(), ids.end());
  return s.h;
}

Tensor Transformer::decode_logits(const Tensor& h) const {
  const Range range(ops_, "head");
  const Tensor x = head_input(h, nullptr), y = ops_.empty(DType::f32, {h.rows(), config().vocab});
  ops_.linear_few(y, x, *head_.weight, {});
  const Tensor out = ops_.to_host(y);
  const auto [scale, cap] = config().logits;
  for (float& v : out.span<float>()) {
    v *= scale;
    if (cap > 0.0f) v = cap * std::tanh(v / cap);
  }
  return out;
}

}  // namespace ptq
