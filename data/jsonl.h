// JSON Lines: one object a line, read a line at a time so that a corpus larger than memory can be sampled.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ptq {

// A record and where it stands ("dev.jsonl line 3"), for messages. Returns false to stop reading.
using RecordVisitor = std::function<bool(const nlohmann::json& record, const std::string& origin)>;

// Blank lines are skipped. Exit 66 if the file is missing, 65 naming the line for anything but an object, 74 on a read
// error. `what` names the file's role in messages.
void for_each_record(const std::filesystem::path& file, std::string_view what, const RecordVisitor& visit);

// One line. Exit 65 with `origin` if it is not a JSON object.
nlohmann::json parse_record(std::string_view line, const std::string& origin);

// A member that must be there and be a string (exit 65).
const std::string& string_member(const nlohmann::json& record, const char* key, const std::string& origin);

}  // namespace ptq
