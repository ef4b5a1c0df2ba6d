// A CUDA stream and an event without CUDA's headers, for files that only pass them on.
#pragma once

struct CUstream_st;
struct CUevent_st;

namespace ptq::cuda {

using Stream = CUstream_st*;
using Event = CUevent_st*;

}  // namespace ptq::cuda
