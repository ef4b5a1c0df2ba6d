// The JSON header of a safetensors file, checked against the size of the data behind it.
#pragma once

#include "host/size.h"
#include "host/tensor.h"

#include <string>
#include <string_view>
#include <vector>

namespace ptq {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::other;
  Shape shape;
  Size begin, end;  // bytes, relative to the end of the header
};

// Entries in the order of their data, which they tile without holes. `file` names the file in messages. Exit 65.
std::vector<SafetensorsEntry> read_safetensors_header(std::string_view header, Size data_bytes,
                                                      const std::string& file);

}  // namespace ptq
