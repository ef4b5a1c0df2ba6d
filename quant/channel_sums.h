// The start of a sum over tokens, see Ops::channel_sums.
#pragma once

#include "host/ops.h"

namespace ptq {

// [2, width] f32 on the host: +inf and -inf.
Tensor no_extremes(std::int64_t width);

// Sums of no tokens, on the device: moments 0, no extremes.
ChannelSums empty_channel_sums(Ops& ops, std::int64_t width);

// [width] max |x| of at least one token.
std::vector<float> largest_magnitude(Ops& ops, const ChannelSums& sums);

// [width] mean |x| over `tokens` tokens, in fp32. NaN and infinity pass through.
std::vector<float> mean_magnitude(Ops& ops, const ChannelSums& sums, std::int64_t tokens);

}  // namespace ptq
