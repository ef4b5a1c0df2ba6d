// The paper's nonsense set: uniform ASCII punctuation and white space.
#pragma once

#include "data/packing.h"

#include <cstdint>
#include <string>

namespace ptq {

// random.seed(seed); "".join(random.choice(string.punctuation + string.whitespace) for _ in range(length)) in CPython:
// uniform over 32 punctuation and 6 white-space characters.
std::string nonsense_text(std::uint64_t seed, std::int64_t length);

// As many characters as rule.samples windows have tokens, doubled until the tokenizer yields enough of them; the text
// is in the result. Exit 2 if that would be more than 2^30 characters.
CalibrationSet nonsense_set(const Tokenizer& tokenizer, const WindowRule& rule);

}  // namespace ptq
