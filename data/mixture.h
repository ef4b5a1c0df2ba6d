// Mixtures of calibration sets: "a:0.5+b:0.5".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ptq {

struct MixturePart {
  std::string set;
  double weight = 0;  // all parts' add up to 1
};

// The parts of "SET:WEIGHT+SET:WEIGHT+...", weights made to add up to 1; empty if `set` is not a mixture, which it is
// if it holds a '+' and no file has that name. A weight is a decimal number after the last colon of its part, so
// flores:eng_Latn:0.5 is the set flores:eng_Latn. Exit 2 for a part without a weight, a weight that is not positive
// and a set named twice.
std::vector<MixturePart> parse_mixture(const std::string& set);

// `samples` windows shared out by weight: whole parts first, the rest to the largest remainders (the earlier part where
// they are equal). Exit 2 if a part gets none.
std::vector<std::int64_t> apportion(const std::vector<MixturePart>& parts, std::int64_t samples);

// The order in which the parts' windows follow each other so that each part is spread evenly: the part of each
// position. Window i of n stands at (i + 1/2) / n of the way; the earlier part goes first where they are equal.
std::vector<std::size_t> interleave(const std::vector<std::int64_t>& windows);

}  // namespace ptq
