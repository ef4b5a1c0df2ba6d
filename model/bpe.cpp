#include "model/bpe.h"

#include "host/error.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>

namespace ptq {

namespace {

std::size_t hash_of(std::int32_t left, std::int32_t right) {
  const std::uint64_t key =
      (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
  const std::uint64_t h = key * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(h ^ (h >> 32));
}

std::uint32_t hash_of(std::string_view piece) {
  return static_cast<std::uint32_t>(std::hash<std::string_view>{}(piece));
}

constexpr std::size_t short_word = 48;
constexpr std::int32_t no_rank = std::numeric_limits<std::int32_t>::max();

}  // namespace

void Bpe::reserve(std::size_t merges) {
  std::size_t wanted = 64;
  while (wanted < 2 * merges) wanted *= 2;
  if (wanted <= slots_.size()) return;
  std::vector<Merge> old(wanted);
  old.swap(slots_);
  count_ = 0;
  for (const Merge& m : old) {
    if (m.left >= 0) add(m.left, m.right, m.rank, m.result);
  }
}

void Bpe::add(std::int32_t left, std::int32_t right, std::int32_t rank, std::int32_t result) {
  if (2 * (count_ + 1) > slots_.size()) reserve(2 * (count_ + 1));
  std::size_t slot = hash_of(left, right) & (slots_.size() - 1);
  for (; slots_[slot].left >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].left == left && slots_[slot].right == right) return;
  }
  slots_[slot] = {left, right, rank, result};
  ++count_;
}

const Bpe::Merge* Bpe::find(std::int32_t left, std::int32_t right) const {
  for (std::size_t slot = hash_of(left, right) & (slots_.size() - 1); slots_[slot].left >= 0;
       slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].left == left && slots_[slot].right == right) return &slots_[slot];
  }
  return nullptr;
}

void Bpe::merge(std::vector<std::int32_t>& symbols) const {
  if (symbols.size() < 2 || count_ == 0) return;
  symbols.size() <= short_word ? merge_short(symbols) : merge_long(symbols);
}

void Bpe::merge_short(std::vector<std::int32_t>& symbols) const {
  std::size_t n = symbols.size();
  std::int32_t rank[short_word], result[short_word];  // of the pair that starts here
  const auto look_up = [&](std::size_t i) {
    const Merge* m = find(symbols[i], symbols[i + 1]);
    rank[i] = m == nullptr ? no_rank : m->rank;
    result[i] = m == nullptr ? -1 : m->result;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    const auto best = static_cast<std::size_t>(std::min_element(rank, rank + n - 1) - rank);
    if (rank[best] == no_rank) break;
    symbols[best] = result[best];
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2, symbols.begin() + static_cast<std::ptrdiff_t>(n),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(rank + best + 1, rank + n - 1, rank + best);
    std::copy(result + best + 1, result + n - 1, result + best);
    --n;
    if (best > 0) look_up(best - 1);
    if (best + 1 < n) look_up(best);
  }
  symbols.resize(n);
}

void Bpe::merge_long(std::vector<std::int32_t>& symbols) const {
  require(symbols.size() < static_cast<std::size_t>(no_rank), Exit::data, "text piece of {} characters is too long",
          symbols.size());
  const auto n = static_cast<std::int32_t>(symbols.size());
  struct Candidate {
    std::int32_t rank, at, result;
    bool operator<(const Candidate& b) const { return rank != b.rank ? rank > b.rank : at > b.at; }
  };
  // The word as a doubly linked list; a merged-away symbol has id -1. Outdated candidates are recognised when they
  // come up: the pair at their place no longer gives their result.
  std::vector<std::int32_t> previous(symbols.size()), next(symbols.size());
  std::vector<Candidate> initial;
  const auto candidate_at = [&](std::int32_t at) {
    const Merge* m = find(symbols[static_cast<std::size_t>(at)],
                          symbols[static_cast<std::size_t>(next[static_cast<std::size_t>(at)])]);
    return m == nullptr ? Candidate{-1, at, -1} : Candidate{m->rank, at, m->result};
  };
  for (std::int32_t i = 0; i < n; ++i) {
    previous[static_cast<std::size_t>(i)] = i - 1;
    next[static_cast<std::size_t>(i)] = i + 1 < n ? i + 1 : -1;
    if (i + 1 == n) break;
    const Candidate c = candidate_at(i);
    if (c.rank >= 0) initial.push_back(c);
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(initial));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const auto at = static_cast<std::size_t>(top.at);
    if (symbols[at] < 0 || next[at] < 0) continue;
    const Candidate now = candidate_at(top.at);
    if (now.rank < 0 || now.result != top.result) continue;
    const auto right = static_cast<std::size_t>(next[at]);
    symbols[at] = top.result;
    symbols[right] = -1;
    next[at] = next[right];
    if (next[at] >= 0) {
      previous[static_cast<std::size_t>(next[at])] = top.at;
      if (const Candidate c = candidate_at(top.at); c.rank >= 0) queue.push(c);
    }
    if (previous[at] >= 0) {
      if (const Candidate c = candidate_at(previous[at]); c.rank >= 0) queue.push(c);
    }
  }
  std::erase(symbols, -1);
}

std::size_t PieceCache::slot_of(std::string_view piece, std::uint32_t hash) const {
  std::size_t slot = hash & (slots_.size() - 1);
  for (; slots_[slot].used; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& s = slots_[slot];
    if (s.hash == hash && std::string_view(bytes_).substr(s.offset, s.length) == piece) break;
  }
  return slot;
}

bool PieceCache::append(std::string_view piece, std::vector<std::int32_t>& out) const {
  if (slots_.empty()) return false;
  const Slot& slot = slots_[slot_of(piece, hash_of(piece))];
  if (!slot.used) return false;
  const auto first = ids_.begin() + static_cast<std::ptrdiff_t>(slot.first);
  out.insert(out.end(), first, first + slot.count);
  return true;
}

void PieceCache::put(std::string_view piece, std::span<const std::int32_t> ids) {
  if (2 * (used_ + 1) > slots_.size()) {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& s : old) {
      if (s.used) slots_[slot_of(std::string_view(bytes_).substr(s.offset, s.length), s.hash)] = s;
    }
  }
  const std::uint32_t hash = hash_of(piece);
  slots_[slot_of(piece, hash)] = {
      hash,       static_cast<std::uint32_t>(piece.size()), static_cast<std::uint32_t>(ids.size()), true, bytes_.size(),
      ids_.size()};
  bytes_.append(piece);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

}  // namespace ptq
