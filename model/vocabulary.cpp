#include "model/vocabulary.h"

#include "host/error.h"
#include "host/printable.h"

#include <functional>

namespace ptq {

namespace {

std::uint32_t hash_of(std::string_view text) {
  const std::size_t h = std::hash<std::string_view>{}(text);
  return static_cast<std::uint32_t>(h ^ (h >> 32));
}

}  // namespace

void Vocabulary::add(std::string_view text, std::int64_t id, std::string_view origin) {
  // The messages are made only when needed: this runs for every entry of a large file.
  if (id < 0 || id >= id_limit) {
    fail(Exit::data, "{}: token \"{}\" has id {}, outside [0, {})", origin, printable(text), id, id_limit);
  }
  require(bytes_.size() + text.size() < (std::size_t{1} << 31), Exit::data, "{}: vocabulary larger than 2 GiB", origin);
  if (2 * (count_ + 1) > slots_.size()) grow();
  const std::uint32_t hash = hash_of(text);
  std::size_t slot = hash & (slots_.size() - 1);
  for (; slots_[slot].id >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].hash == hash && this->text(slots_[slot].id) == text) {
      fail(Exit::data, "{}: token \"{}\" occurs twice", origin, printable(text));
    }
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= entries_.size()) entries_.resize(index + 1);
  if (entries_[index].used != 0) {
    fail(Exit::data, "{}: id {} belongs to both \"{}\" and \"{}\"", origin, id,
         printable(this->text(static_cast<std::int32_t>(id))), printable(text));
  }
  slots_[slot] = {hash, static_cast<std::int32_t>(id)};
  Entry& entry = entries_[index];
  entry.offset = static_cast<std::uint32_t>(bytes_.size());
  entry.length = static_cast<std::uint32_t>(text.size()) & 0x7fffffffu;
  entry.used = 1;
  bytes_.append(text);
  ++count_;
}

std::int32_t Vocabulary::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const std::uint32_t hash = hash_of(text);
  for (std::size_t slot = hash & (slots_.size() - 1); slots_[slot].id >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].hash == hash && this->text(slots_[slot].id) == text) return slots_[slot].id;
  }
  return -1;
}

std::string_view Vocabulary::text(std::int32_t id) const {
  const Entry& entry = entries_[static_cast<std::size_t>(id)];
  return std::string_view(bytes_).substr(entry.offset, entry.length);
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.empty() ? 1024 : 2 * slots_.size());
  old.swap(slots_);
  for (const Slot& s : old) {
    if (s.id < 0) continue;
    std::size_t slot = s.hash & (slots_.size() - 1);
    while (slots_[slot].id >= 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = s;
  }
}

}  // namespace ptq
