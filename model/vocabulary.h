// Token strings and ids, both ways. The strings lie in one buffer and the table is open-addressed, because a
// vocabulary has up to a few hundred thousand entries and is looked up a million times while merges are read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

class Vocabulary {
 public:
  static constexpr std::int64_t id_limit = std::int64_t{1} << 22;  // bounds memory against hostile files

  // Exit 65 for an id outside [0, id_limit), a second string for an id or a second id for a string; `origin` names
  // the file.
  void add(std::string_view text, std::int64_t id, std::string_view origin);

  std::int32_t find(std::string_view text) const;  // -1 if absent
  bool has(std::int32_t id) const { return id >= 0 && id < size() && entries_[static_cast<std::size_t>(id)].used; }
  std::string_view text(std::int32_t id) const;                                     // of an id that it has
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }  // ids are below this

 private:
  struct Entry {
    std::uint32_t offset = 0;
    std::uint32_t length : 31 = 0;
    std::uint32_t used : 1 = 0;
  };
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t id = -1;
  };
  void grow();

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

}  // namespace ptq
