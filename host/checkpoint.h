// A model directory's tensor files behind one interface: model.safetensors, its sharded form, pytorch_model.bin
// (zip-pickle, read by a data-only reader) and its sharded form, looked up in this order. Opening reads headers
// only; a tensor's bytes are read (pread, no mapping: a file that shrinks must not be a SIGBUS) when asked for.
#pragma once

#include "host/size.h"
#include "host/tensor.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ptq {

struct TensorInfo {
  std::string name;
  DType dtype = DType::other;
  Shape shape;
  std::string file;  // file name inside the directory, for messages
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // All tensors by name.
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;

  // Reads rows [begin, end) of dimension 0 (end = -1: all), converted to `as` (floats among each other; otherwise the
  // stored dtype must be `as`). Errors name file, tensor and byte: 65 malformed, 74 I/O.
  virtual Tensor read(const std::string& name, DType as, std::int64_t begin = 0, std::int64_t end = -1) const = 0;

  // The data files, for digests and sizes.
  virtual std::vector<std::filesystem::path> files() const = 0;
};

// Exit 66 if there is no weight file, 65 if it is malformed.
std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& directory);

// One safetensors file by path (goldens, ptq matrix cases, outputs).
std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& file);

// Writes a safetensors file: the set of tensors is declared first, so that the header is written once and tensor data
// stream through in any order. The file appears under its name only when finish() succeeded (temporary name, fsync,
// rename, directory fsync); on any failure or if finish() is not called, what was there before is untouched.
class SafetensorsWriter {
 public:
  // dtype and shape of every tensor that will be written. Exit 73 if the file cannot be created, 74 on a full disk.
  SafetensorsWriter(const std::filesystem::path& file, const std::vector<TensorInfo>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void write(const std::string& name, const Tensor& value);  // dtype and shape as declared
  void finish();                                             // fails if a declared tensor is missing

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Convenience for small sets.
void write_safetensors(const std::filesystem::path& file, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace ptq
