// The data-only part of Python's pickle that torch.save uses for a state dict: a stack machine that accepts a short
// list of opcodes and of global names, turns them into values of its own, and executes nothing (spec models.md 4.3).
#pragma once

#include "host/size.h"
#include "host/tensor.h"

#include <map>
#include <string>
#include <string_view>

namespace ptq {

// A tensor as data.pkl describes it: a strided view of a storage. All numbers are as the file claims, unchecked but
// for their sign.
struct PickledTensor {
  DType dtype = DType::other;
  std::string storage;  // key of the storage
  Size storage_numel;
  Size offset;  // elements
  Shape shape;
  Shape stride;  // elements, as many as dimensions
};

// `pickle` is the content of data.pkl, `where` names it in messages. Exit 65 on anything that is not a plain state
// dict, naming the opcode or global.
std::map<std::string, PickledTensor> read_state_dict(std::string_view pickle, const std::string& where);

}  // namespace ptq
