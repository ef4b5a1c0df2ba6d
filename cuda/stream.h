// A CUDA stream without CUDA's headers, for files that only pass it on.
#pragma once

struct CUstream_st;

namespace ptq::cuda {

using Stream = CUstream_st*;

}  // namespace ptq::cuda
