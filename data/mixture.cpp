#include "data/mixture.h"

#include "data/corpora.h"
#include "host/error.h"
#include "host/printable.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string_view>

namespace ptq {

namespace {

MixturePart parse_part(std::string_view part) {
  const auto colon = part.rfind(':');
  const std::string_view digits = colon == std::string_view::npos ? std::string_view() : part.substr(colon + 1);
  MixturePart parsed{.set = std::string(part.substr(0, std::min(colon, part.size())))};
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), parsed.weight, std::chars_format::fixed);
  require(!digits.empty() && error == std::errc{} && end == digits.data() + digits.size(), Exit::usage,
          "mixture: '{}' has no weight; write SET:WEIGHT+SET:WEIGHT, e.g. c4:0.5+nonsense:0.5", printable(part));
  require(!parsed.set.empty() && parsed.weight > 0 && parsed.weight <= 1e9, Exit::usage,
          "mixture: '{}' needs the name of a set and a weight above 0", printable(part));
  return parsed;
}

}  // namespace

std::vector<MixturePart> parse_mixture(const std::string& set) {
  std::vector<MixturePart> parts;
  if (set.find('+') == std::string::npos || present(set)) return parts;
  for (std::string_view rest = set;;) {
    const std::string_view part = rest.substr(0, rest.find('+'));
    parts.push_back(parse_part(part));
    for (std::size_t p = 0; p + 1 < parts.size(); ++p)
      require(parts[p].set != parts.back().set, Exit::usage, "mixture: {} is named twice; add the weights",
              printable(parts[p].set));
    if (part.size() == rest.size()) break;
    rest.remove_prefix(part.size() + 1);
  }
  double total = 0;
  for (const MixturePart& part : parts) total += part.weight;
  for (MixturePart& part : parts) part.weight /= total;
  return parts;
}

std::vector<std::int64_t> apportion(const std::vector<MixturePart>& parts, std::int64_t samples) {
  std::vector<std::int64_t> windows;
  std::vector<double> remainders;
  for (const MixturePart& part : parts) {
    const double exact = part.weight * static_cast<double>(samples);
    // A share that is whole but for the rounding of its weight is whole.
    const double nearest = std::round(exact);
    const double whole = std::fabs(exact - nearest) < 1e-9 * static_cast<double>(samples) ? nearest : std::floor(exact);
    windows.push_back(static_cast<std::int64_t>(whole));
    remainders.push_back(std::max(0.0, exact - whole));
  }
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainders[a] > remainders[b] + 1e-12; });
  const std::int64_t rest = samples - std::accumulate(windows.begin(), windows.end(), std::int64_t{0});
  for (std::int64_t i = 0; i < rest; ++i) ++windows[order[static_cast<std::size_t>(i) % order.size()]];
  for (std::size_t p = 0; p < parts.size(); ++p)
    require(windows[p] > 0, Exit::usage, "mixture: {} gets none of {} windows; raise its weight or --samples",
            printable(parts[p].set), samples);
  return windows;
}

std::vector<std::size_t> interleave(const std::vector<std::int64_t>& windows) {
  std::vector<std::int64_t> placed(windows.size(), 0);
  const std::int64_t total = std::accumulate(windows.begin(), windows.end(), std::int64_t{0});
  std::vector<std::size_t> order;
  while (static_cast<std::int64_t>(order.size()) < total) {
    std::size_t next = windows.size();
    for (std::size_t p = 0; p < windows.size(); ++p) {
      if (placed[p] == windows[p]) continue;
      // (2i + 1) / 2n, compared without division; counts are at most 2^30
      if (next == windows.size() || (2 * placed[p] + 1) * windows[next] < (2 * placed[next] + 1) * windows[p]) next = p;
    }
    ++placed[next];
    order.push_back(next);
  }
  return order;
}

}  // namespace ptq
