// Token ids as data: files of them and their digest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ptq {

// Lower-case hex sha256 of the ids as little-endian int32.
std::string ids_sha256(std::span<const std::int32_t> ids);

// One sequence a line, decimal ids separated by spaces, tabs or commas; blank lines are skipped. Ids must be in
// 0..2^31-1; whether the model knows them is checked when they are used. Exit 66 missing, 65 naming line and column.
std::vector<std::vector<std::int32_t>> read_id_lines(const std::filesystem::path& file);

}  // namespace ptq
