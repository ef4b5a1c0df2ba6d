#include "host/stored_tensor.h"

#include "host/printable.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ptq {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian");

namespace {

constexpr std::int64_t piece = std::int64_t{1} << 20;  // elements converted at a time

void read_converted(const InputFile& file, Size offset, DType stored, const Tensor& out) {
  const std::int64_t total = out.numel();
  const Tensor buffer = Tensor::empty(stored, {std::min(total, piece)});
  auto* to = static_cast<char*>(out.raw());
  for (std::int64_t at = 0; at < total; at += piece) {
    const Tensor part = buffer.slice_rows(0, std::min(piece, total - at));
    file.read(part.raw(), offset + Size(static_cast<std::uint64_t>(at)) * Size(size_of(stored)), Size(part.bytes()));
    const Tensor converted = part.to(out.dtype());
    std::memcpy(to, converted.raw(), converted.bytes());
    to += converted.bytes();
  }
}

}  // namespace

void StoredTensorFile::add(const std::string& tensor, DType dtype, Shape shape, Size offset) {
  const auto made = tensors_.emplace(tensor, TensorInfo{tensor, dtype, std::move(shape), name_});
  offsets_.emplace(made.first->first, offset);
}

Tensor StoredTensorFile::read(const std::string& name, DType as, std::int64_t begin, std::int64_t end) const {
  const auto at = tensors_.find(name);
  require(at != tensors_.end(), Exit::data, "{}: there is no tensor {}", file_.path().string(), printable(name));
  const TensorInfo& info = at->second;
  require(info.dtype == as || (is_float(info.dtype) && is_float(as)), Exit::data,
          "{}: tensor {} is stored as {}, {} is needed", file_.path().string(), printable(info.name),
          name_of(info.dtype), name_of(as));
  check(info.dtype != DType::other, "tensor {} of an unknown dtype", info.name);
  Shape shape = info.shape;
  Size offset = offsets_.at(name);
  if (!shape.empty()) {
    if (end < 0) end = shape[0];
    check(0 <= begin && begin <= end && end <= shape[0], "rows [{}, {}) of {} {}", begin, end, info.name,
          to_string(shape));
    shape[0] = 1;
    const Size row_bytes = Size(static_cast<std::uint64_t>(numel(shape))) * Size(size_of(info.dtype));
    offset = offset + row_bytes * Size(static_cast<std::uint64_t>(begin));
    shape[0] = end - begin;
  } else {
    check(begin == 0 && end <= 1, "rows [{}, {}) of the scalar {}", begin, end, info.name);
  }
  const Tensor out = Tensor::empty(as, shape);
  if (info.dtype == as) {
    file_.read(out.raw(), offset, Size(out.bytes()));
  } else {
    read_converted(file_, offset, info.dtype, out);
  }
  return out;
}

}  // namespace ptq
