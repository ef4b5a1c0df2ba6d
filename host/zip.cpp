// Layout: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14-16 (end records).
#include "host/zip.h"

#include "host/printable.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

namespace ptq {

namespace {

constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50,
                        end64_signature = 0x06064b50, locator_signature = 0x07064b50;
constexpr std::size_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator_bytes = 20;
constexpr std::uint64_t max_directory = std::uint64_t{16} << 20, max_entries = 65'536;
constexpr std::uint32_t full32 = 0xffffffff;  // "see the ZIP64 record"
constexpr std::uint16_t full16 = 0xffff, zip64_extra = 1;
constexpr unsigned flag_encrypted = 1u | (1u << 6) | (1u << 13), flag_descriptor = 1u << 3;

// Fields of a record at a fixed place; the caller has checked that it is long enough.
template <class T>
T field(std::string_view record, std::size_t at) {
  T value;
  check(at + sizeof value <= record.size(), "zip field at {} of {}", at, record.size());
  std::memcpy(&value, record.data() + at, sizeof value);
  return value;
}

struct Directory {
  Size offset, size, entries;
};

struct Central {
  std::string name;
  Size header, size;
  unsigned flags = 0;
};

class ZipReader {
 public:
  explicit ZipReader(const InputFile& file) : file_(file), where_(file.path().string()) {}

  std::map<std::string, ZipEntry> entries() {
    const Directory directory = find_directory();
    struct Span {
      Size begin, end;
    };
    std::vector<Span> spans;
    std::map<std::string, ZipEntry> all;
    for (const Central& central : parse_directory(directory)) {
      const Size content = content_offset(central, directory.offset);
      const bool fresh = all.emplace(central.name, ZipEntry{content, central.size}).second;
      require(fresh, Exit::data, "{}: zip entry {} occurs twice", where_, printable(central.name));
      spans.push_back({central.header, content + central.size});
    }
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < spans.size(); ++i) {
      require(spans[i - 1].end <= spans[i].begin, Exit::data, "{}: zip entries overlap at byte {}", where_,
              spans[i].begin.value());
    }
    return all;
  }

 private:
  // The end record is followed by nothing but its comment.
  Directory find_directory() {
    const Size tail_size = std::min(file_.size(), Size(end_bytes + 0xffff));
    const Size tail_offset = file_.size() - tail_size;
    const std::string tail = file_.read(tail_offset, tail_size);
    for (std::size_t i = tail.size() < end_bytes ? 0 : tail.size() - end_bytes + 1; i-- > 0;) {
      const auto record = std::string_view(tail).substr(i);
      if (field<std::uint32_t>(record, 0) != end_signature) continue;
      if (end_bytes + field<std::uint16_t>(record, 20) != record.size()) continue;
      return read_end(record, tail_offset + Size(i));
    }
    fail(Exit::data, "{}: it has no zip directory: truncated?{}", where_, format_hint(file_));
  }

  Directory read_end(std::string_view record, Size at) {
    const auto entries = field<std::uint16_t>(record, 10);
    const auto size = field<std::uint32_t>(record, 12);
    const auto offset = field<std::uint32_t>(record, 16);
    require(field<std::uint16_t>(record, 4) == field<std::uint16_t>(record, 6), Exit::data,
            "{}: a zip of several disks", where_);
    Directory directory{Size(offset), Size(size), Size(entries)};
    if (entries == full16 || size == full32 || offset == full32) directory = read_end64(at);
    require(directory.offset <= at && directory.size <= at - directory.offset, Exit::data,
            "{}: the zip directory ({} bytes at byte {}) does not fit the file", where_, directory.size.value(),
            directory.offset.value());
    require(directory.size <= Size(max_directory) && directory.entries <= Size(max_entries), Exit::data,
            "{}: the zip directory claims {} entries in {} bytes, too many", where_, directory.entries.value(),
            directory.size.value());
    return directory;
  }

  Directory read_end64(Size end) {
    require(end >= Size(locator_bytes), Exit::data, "{}: the ZIP64 locator is missing", where_);
    const std::string locator = file_.read(end - Size(locator_bytes), locator_bytes);
    require(field<std::uint32_t>(locator, 0) == locator_signature, Exit::data, "{}: the ZIP64 locator is missing",
            where_);
    const std::string record = file_.read(Size(field<std::uint64_t>(locator, 8)), end64_bytes);
    require(field<std::uint32_t>(record, 0) == end64_signature, Exit::data, "{}: the ZIP64 end record is missing",
            where_);
    return {Size(field<std::uint64_t>(record, 48)), Size(field<std::uint64_t>(record, 40)),
            Size(field<std::uint64_t>(record, 32))};
  }

  std::vector<Central> parse_directory(const Directory& directory) {
    const std::string text = file_.read(directory.offset, directory.size);
    std::string_view rest = text;
    std::vector<Central> all;
    while (!rest.empty()) {
      const std::size_t at = text.size() - rest.size();
      require(rest.size() >= central_bytes && field<std::uint32_t>(rest, 0) == central_signature, Exit::data,
              "{}: malformed zip directory at its byte {}", where_, at);
      const std::size_t name = field<std::uint16_t>(rest, 28), extra = field<std::uint16_t>(rest, 30),
                        comment = field<std::uint16_t>(rest, 32);
      require(central_bytes + name + extra + comment <= rest.size(), Exit::data,
              "{}: malformed zip directory at its byte {}", where_, at);
      all.push_back(central_entry(rest, rest.substr(central_bytes, name), rest.substr(central_bytes + name, extra)));
      require(Size(all.size()) <= directory.entries, Exit::data, "{}: more zip entries than the {} announced", where_,
              directory.entries.value());
      rest.remove_prefix(central_bytes + name + extra + comment);
    }
    require(Size(all.size()) == directory.entries, Exit::data, "{}: {} zip entries, {} announced", where_, all.size(),
            directory.entries.value());
    return all;
  }

  Central central_entry(std::string_view record, std::string_view name, std::string_view extra) {
    Central central;
    central.name = std::string(name);
    central.flags = field<std::uint16_t>(record, 8);
    const auto method = field<std::uint16_t>(record, 10);
    const auto packed32 = field<std::uint32_t>(record, 20), plain32 = field<std::uint32_t>(record, 24),
               header32 = field<std::uint32_t>(record, 42);
    Size packed(packed32), plain(plain32), header(header32);
    // The ZIP64 field holds, in this order, only what did not fit.
    std::string_view wide = find_zip64(extra);
    for (auto [narrow, value] : {std::pair{plain32, &plain}, {packed32, &packed}, {header32, &header}}) {
      if (narrow != full32) continue;
      require(wide.size() >= 8, Exit::data, "{}: zip entry {} lacks its ZIP64 sizes", where_, printable(name));
      *value = Size(field<std::uint64_t>(wide, 0));
      wide.remove_prefix(8);
    }
    require((central.flags & flag_encrypted) == 0, Exit::data, "{}: zip entry {} is encrypted", where_,
            printable(name));
    require(method == 0 && packed == plain, Exit::data, "{}: zip entry {} is compressed, torch.save stores", where_,
            printable(name));
    central.size = plain;
    central.header = header;
    return central;
  }

  std::string_view find_zip64(std::string_view extra) {
    while (extra.size() >= 4) {
      const std::size_t length = field<std::uint16_t>(extra, 2);
      if (length > extra.size() - 4) break;
      if (field<std::uint16_t>(extra, 0) == zip64_extra) return extra.substr(4, length);
      extra.remove_prefix(4 + length);
    }
    return {};
  }

  // Behind the local header, which must tell the same story as the directory.
  Size content_offset(const Central& central, Size limit) {
    const auto sound = [&](bool ok) {
      require(ok, Exit::data, "{}: zip entry {}: its header at byte {} contradicts the directory", where_,
              printable(central.name), central.header.value());
    };
    sound(central.header <= limit && limit - central.header >= Size(local_bytes + central.name.size()));
    const std::string local = file_.read(central.header, local_bytes + central.name.size());
    sound(field<std::uint32_t>(local, 0) == local_signature);
    sound(field<std::uint16_t>(local, 26) == central.name.size() && local.ends_with(central.name));
    sound(field<std::uint16_t>(local, 8) == 0 && (field<std::uint16_t>(local, 6) & flag_encrypted) == 0);
    const auto packed = field<std::uint32_t>(local, 18), plain = field<std::uint32_t>(local, 22);
    const bool streamed = (field<std::uint16_t>(local, 6) & flag_descriptor) != 0 && packed == 0 && plain == 0;
    for (const std::uint32_t size : {packed, plain}) sound(streamed || size == full32 || Size(size) == central.size);
    const Size content = central.header + Size(local.size() + field<std::uint16_t>(local, 28));
    sound(content <= limit && central.size <= limit - content);
    return content;
  }

  const InputFile& file_;
  std::string where_;
};

}  // namespace

std::map<std::string, ZipEntry> read_zip(const InputFile& file) { return ZipReader(file).entries(); }

}  // namespace ptq
