// A tensor as contiguous little-endian bytes at an offset of a file: what safetensors and stored zip entries have in
// common.
#pragma once

#include "host/checkpoint.h"
#include "host/input_file.h"

namespace ptq {

struct StoredTensor {
  TensorInfo info;
  Size offset;  // of the first byte in the file
};

// Rows [begin, end) of dimension 0 (end = -1: all) in dtype `as`. Converts piece by piece, so that nothing beside the
// result is larger than a few MiB. Errors: 65 malformed or wrong dtype, 74 I/O.
Tensor read_stored(const InputFile& file, const StoredTensor& stored, DType as, std::int64_t begin, std::int64_t end);

}  // namespace ptq
