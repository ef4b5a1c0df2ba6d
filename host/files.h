// Whole-file input and crash-safe output for everything that is not a tensor.
#pragma once

#include "host/size.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// The whole file as bytes. `what` names it in messages ("config", "calibration text"). Exit 66 missing, 65 larger
// than `limit`, 74 unreadable.
std::string read_file(const std::filesystem::path& path, std::string_view what,
                      Size limit = Size(std::uint64_t{4} << 30));

// JSON with bounded depth, no duplicate keys, valid UTF-8; errors name file and byte (exit 65).
nlohmann::json parse_json(std::string_view text, const std::string& origin);
nlohmann::json read_json(const std::filesystem::path& path, std::string_view what,
                         Size limit = Size(std::uint64_t{256} << 20));

// Replaces `path` by `content`: temporary name beside it, fsync, rename, fsync of the directory. Exit 73 / 74; on
// failure the old file is intact.
void write_file(const std::filesystem::path& path, std::string_view content);

// The largest resident memory of this process so far, in bytes; 0 where the system does not tell.
std::uint64_t peak_memory();

// Lower-case hex sha256.
std::string sha256_hex(std::string_view bytes);
std::string sha256_file(const std::filesystem::path& path);

}  // namespace ptq
