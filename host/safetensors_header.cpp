// The order and strictness of the checks follow the reference reader (safetensors/src/tensor.rs); duplicate names,
// which its documentation forbids, are refused too.
#include "host/safetensors_header.h"

#include "host/printable.h"
#include "host/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

namespace ptq {

namespace {

using Json = nlohmann::json;
using Event = Json::parse_event_t;

// Ours, so that what is built from a header stays small beside it.
constexpr std::size_t max_tensors = 65'536;
constexpr std::size_t max_name = 256;
constexpr std::size_t max_values = 4096;  // in one entry
constexpr std::size_t max_depth = 16;
constexpr std::size_t max_string = std::size_t{16} << 20;

struct DTypeRow {
  std::string_view name;
  unsigned bits;
  DType dtype;
};

constexpr std::array dtypes{
    DTypeRow{"F32", 32, DType::f32},
    DTypeRow{"F16", 16, DType::f16},
    DTypeRow{"BF16", 16, DType::bf16},
    DTypeRow{"F64", 64, DType::f64},
    DTypeRow{"I8", 8, DType::i8},
    DTypeRow{"U8", 8, DType::u8},
    DTypeRow{"I16", 16, DType::i16},
    DTypeRow{"I32", 32, DType::i32},
    DTypeRow{"I64", 64, DType::i64},
    DTypeRow{"BOOL", 8, DType::boolean},
    DTypeRow{"U16", 16, DType::other},
    DTypeRow{"U32", 32, DType::other},
    DTypeRow{"U64", 64, DType::other},
    DTypeRow{"C64", 64, DType::other},
    DTypeRow{"F4", 4, DType::other},
    DTypeRow{"F6_E2M3", 6, DType::other},
    DTypeRow{"F6_E3M2", 6, DType::other},
    DTypeRow{"F8_E5M2", 8, DType::other},
    DTypeRow{"F8_E4M3", 8, DType::other},
    DTypeRow{"F8_E8M0", 8, DType::other},
    DTypeRow{"F8_E4M3FNUZ", 8, DType::other},
    DTypeRow{"F8_E5M2FNUZ", 8, DType::other},
};

Size natural(const Json& value, const char* what) {
  require(value.is_number_unsigned(), Exit::data, "{} must be non-negative integers", what);
  return Size(value.get<std::uint64_t>());
}

// Messages are about the entry; the caller adds the file and the tensor's name.
SafetensorsEntry entry_of(const std::string& name, const Json& json) {
  const auto field = [&](const char* key) {
    const auto at = json.find(key);
    return at == json.end() ? nullptr : &*at;
  };
  require(json.is_object(), Exit::data, "its header entry is not an object");
  SafetensorsEntry entry;
  entry.name = name;

  const Json* dtype = field("dtype");
  require(dtype != nullptr && dtype->is_string(), Exit::data, "it has no dtype string");
  const auto& dtype_name = dtype->get_ref<const std::string&>();
  const auto* row = std::find_if(dtypes.begin(), dtypes.end(), [&](const DTypeRow& r) { return r.name == dtype_name; });
  if (row == dtypes.end()) fail(Exit::data, "unknown dtype \"{}\"", printable(dtype_name));
  entry.dtype = row->dtype;

  const Json* shape = field("shape");
  require(shape != nullptr && shape->is_array(), Exit::data, "it has no shape array");
  Size count = 1;
  for (const Json& extent : *shape) {
    const Size n = natural(extent, "dimensions");
    entry.shape.push_back(n.signed_value());
    count = count * n;
  }
  const Size bits = count * Size(row->bits);
  require(bits.value() % 8 == 0, Exit::data, "{} values of {} bits are not whole bytes", count.value(), row->bits);
  const Size bytes(bits.value() / 8);

  const Json* offsets = field("data_offsets");
  require(offsets != nullptr && offsets->is_array() && offsets->size() == 2, Exit::data,
          "it has no pair of data_offsets");
  entry.begin = natural((*offsets)[0], "data_offsets");
  entry.end = natural((*offsets)[1], "data_offsets");
  if (entry.begin > entry.end || entry.end - entry.begin != bytes) {
    fail(Exit::data, "shape {} of {} takes {} bytes, but data_offsets are [{}, {}]", printable(to_string(entry.shape)),
         row->name, bytes.value(), entry.begin.value(), entry.end.value());
  }
  return entry;
}

void check_metadata(const Json& json, const std::string& file) {
  if (json.is_null()) return;
  bool strings = json.is_object();
  for (const Json& value : json) strings = strings && value.is_string();
  require(strings, Exit::data, "{}: __metadata__ must map strings to strings", file);
}

// Takes the header's entries one by one while it is parsed and drops them from the document, so that a large header
// does not become a larger tree.
class HeaderReader {
 public:
  HeaderReader(Size data_bytes, const std::string& file) : left_(data_bytes), file_(file) {}

  bool operator()(int, Event event, Json& parsed) {
    switch (event) {
      case Event::object_start:
        open(true);
        return true;
      case Event::array_start:
        open(false);
        return true;
      case Event::key:
        key(parsed.get_ref<const std::string&>());
        return true;
      case Event::value:
        require(depth_ > 0, Exit::data, "{}: the header is not a JSON object", file_);
        count();
        if (depth_ == 1) take(parsed);
        return true;
      case Event::object_end:
      case Event::array_end:
        --depth_;
        if (depth_ == 1) take(parsed);
        return depth_ != 1;
    }
    return true;
  }

  std::vector<SafetensorsEntry> entries;

 private:
  void open(bool object) {
    require(depth_ > 0 || object, Exit::data, "{}: the header is not a JSON object", file_);
    require(depth_ < max_depth, Exit::data, "{}: the header is nested deeper than {}", file_, max_depth);
    ++depth_;
    count();
  }

  void count() {
    if (depth_ > 1 && ++values_ > max_values) {
      refuse(fmt::format("its header entry has more than {} values", max_values));
    }
  }

  [[noreturn]] void refuse(std::string_view why) const {
    fail(Exit::data, "{}: tensor {}: {}", file_, printable(name_), why);
  }

  void key(const std::string& key) {
    if (depth_ == 1) {
      name_ = key;
      if (key.size() > max_name) refuse(fmt::format("its name has {} bytes, more than {}", key.size(), max_name));
      values_ = 0;
      fields_.clear();
    } else if (depth_ == 2 && !fields_.insert(key).second) {
      refuse(fmt::format("its header entry has the key {} twice", printable(key)));
    }
  }

  void take(const Json& value) {
    if (name_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) refuse("it occurs twice in the header");
      check_metadata(value, file_);
      return;
    }
    require(entries.size() < max_tensors, Exit::data, "{}: more than {} tensors", file_, max_tensors);
    try {
      entries.push_back(entry_of(name_, value));
    } catch (const Error& e) {
      refuse(e.what());
    }
    // No byte belongs to two tensors, so a header of many entries over few bytes need not be read to its end.
    const Size bytes = entries.back().end - entries.back().begin;
    if (bytes > left_) {
      refuse(fmt::format("it takes {} bytes of data where {} are left: truncated file?", bytes.value(), left_.value()));
    }
    left_ = left_ - bytes;
  }

  Size left_;  // bytes of data that no tensor has claimed
  const std::string& file_;
  std::size_t depth_ = 0;
  std::size_t values_ = 0;
  bool has_metadata_ = false;
  std::string name_;
  std::unordered_set<std::string> fields_;
};

// The parser collects a string before anyone can object to its length, and takes a NUL for the end of its input.
void check_strings(std::string_view header, const std::string& file) {
  const auto nul = header.find('\0');
  require(nul == std::string_view::npos, Exit::data, "{}: byte {} is a NUL inside the header", file, nul + 8);
  std::size_t start = 0;
  bool inside = false;
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (inside && header[i] == '\\') {
      ++i;  // whatever is escaped does not end the string
    } else if (header[i] == '"') {
      inside = !inside;
      start = i;
    }
    if (inside && i - start > max_string) {
      fail(Exit::data, "{}: a string of more than {} bytes in the header", file, max_string);
    }
  }
}

std::vector<SafetensorsEntry> parse_header(std::string_view header, Size data_bytes, const std::string& file) {
  check_strings(header, file);
  const auto first = header.find_first_not_of(" \t\r\n");
  require(first != std::string_view::npos && header[first] == '{', Exit::data,
          "{}: the header does not begin with '{{'", file);
  HeaderReader reader(data_bytes, file);
  try {
    [[maybe_unused]] const Json rest = Json::parse(header.begin(), header.end(), std::ref(reader));
  } catch (const Json::parse_error& e) {
    fail(Exit::data, "{}: malformed header at byte {}: {}", file, e.byte + 8, json_reason(e.what()));
  } catch (const Json::exception& e) {
    fail(Exit::data, "{}: malformed header: {}", file, json_reason(e.what()));
  }
  return std::move(reader.entries);
}

void check_names(const std::vector<SafetensorsEntry>& entries, const std::string& file) {
  std::vector<std::string_view> names;
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail(Exit::data, "{}: tensor {} occurs twice in the header", file, printable(*twice));
}

// The tensors must tile the data without holes, overlaps or trailing bytes.
void check_layout(std::vector<SafetensorsEntry>& entries, Size data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  Size at = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != at) {
      fail(Exit::data, "{}: tensor {} begins at data byte {}, expected {}: a hole or an overlap", file,
           printable(entry.name), entry.begin.value(), at.value());
    }
    at = entry.end;
  }
  require(at == data_bytes, Exit::data, "{}: {} bytes of tensors, but {} bytes of data", file, at.value(),
          data_bytes.value());
}

}  // namespace

std::vector<SafetensorsEntry> read_safetensors_header(std::string_view header, Size data_bytes,
                                                      const std::string& file) {
  auto entries = parse_header(header, data_bytes, file);
  check_names(entries, file);
  check_layout(entries, data_bytes, file);
  return entries;
}

std::string_view safetensors_name(DType dtype) {
  if (dtype == DType::other) return "";
  const auto* row = std::find_if(dtypes.begin(), dtypes.end(), [&](const DTypeRow& r) { return r.dtype == dtype; });
  return row->name;
}

}  // namespace ptq
