#include "data/ids.h"

#include "host/error.h"
#include "host/files.h"

#include <bit>
#include <charconv>
#include <string_view>

namespace ptq {

std::string ids_sha256(std::span<const std::int32_t> ids) {
  static_assert(std::endian::native == std::endian::little, "ids are hashed as they lie in memory");
  return sha256_hex({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
}

std::vector<std::vector<std::int32_t>> read_id_lines(const std::filesystem::path& file) {
  const std::string text = read_file(file, "id file");
  std::vector<std::vector<std::int32_t>> sequences;
  std::string_view rest = text;
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    std::vector<std::int32_t> ids;
    const char* const end = line.data() + line.size();
    for (const char* p = line.data(); p != end;) {
      if (std::string_view(" \t\r,").find(*p) != std::string_view::npos) {
        ++p;
        continue;
      }
      std::int32_t id = -1;
      const auto [after, error] = std::from_chars(p, end, id);
      require(error == std::errc{} && id >= 0, Exit::data, "{} line {} column {}: expected a token id in 0..2147483647",
              file.string(), number, p - line.data() + 1);
      ids.push_back(id);
      p = after;
    }
    if (!ids.empty()) sequences.push_back(std::move(ids));
  }
  require(!sequences.empty(), Exit::data, "{} holds no token ids", file.string());
  return sequences;
}

}  // namespace ptq
