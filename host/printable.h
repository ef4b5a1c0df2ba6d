// Text from an input file made safe for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace ptq {

// Control characters, backslashes and bytes above 126 become \xNN; longer than `limit` characters is cut with "...".
std::string printable(std::string_view text, std::size_t limit = 120);

// What a JSON library's exception says, without the library's own prefix "[json.exception.parse_error.101] ".
std::string json_reason(std::string_view what);

}  // namespace ptq
