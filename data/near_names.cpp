#include "data/near_names.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace ptq {

namespace {

constexpr std::size_t longest = 64;  // of a name that is compared; bounds the work on a hostile one

std::string folded(std::string_view name) {
  std::string result(name.substr(0, longest));
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

// Levenshtein's distance, one row of the table at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> near_names(std::string_view typed, std::span<const std::string> names, std::size_t count) {
  const std::string wanted = folded(typed);
  std::vector<std::tuple<bool, std::size_t, std::string>> ranked;
  for (const std::string& name : names) {
    const std::string candidate = folded(name);
    ranked.emplace_back(!candidate.starts_with(std::string_view(wanted).substr(0, 3)), edit_distance(wanted, candidate),
                        name);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (std::size_t i = 0; i < std::min(count, ranked.size()); ++i) nearest.push_back(std::get<2>(ranked[i]));
  return nearest;
}

}  // namespace ptq
