// numpy.random.default_rng(seed).permutation(n), number for number: Hugging Face's Dataset.shuffle(seed) is that
// permutation, and AWQ's calibration set is the head of a dataset shuffled so (spec B.7).
#pragma once

#include <cstdint>
#include <vector>

namespace ptq {

// A permutation of 0..n-1.
std::vector<std::int64_t> numpy_permutation(std::uint64_t seed, std::int64_t n);

}  // namespace ptq
