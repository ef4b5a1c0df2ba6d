#include "data/jsonl.h"

#include "data/line_reader.h"
#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

namespace ptq {

nlohmann::json parse_record(std::string_view line, const std::string& origin) {
  nlohmann::json record = parse_json(line, origin);
  require(record.is_object(), Exit::data, "{}: expected a JSON object", origin);
  return record;
}

void for_each_record(const std::filesystem::path& file, std::string_view what, const RecordVisitor& visit) {
  LineReader lines(file, what);
  for (std::string_view line; lines.next(line);) {
    if (python_strip(line).empty()) continue;
    const std::string origin = fmt::format("{} line {}", file.string(), lines.number());
    if (!visit(parse_record(line, origin), origin)) return;
  }
}

const std::string& string_member(const nlohmann::json& record, const char* key, const std::string& origin) {
  const auto member = record.find(key);
  require(member != record.end() && member->is_string(), Exit::data, "{}: \"{}\" must be a string", origin, key);
  return member->get_ref<const std::string&>();
}

}  // namespace ptq
