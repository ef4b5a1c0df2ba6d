// The few Python string operations whose exact behaviour shows in lm-evaluation-harness results.
#pragma once

#include <cstdint>
#include <string_view>

namespace ptq {

// str.strip() and str.rstrip() without arguments on UTF-8: everything for which Python's str.isspace() holds, which is
// more than ASCII (U+00A0, U+2028, U+3000, ...) and includes U+001C..U+001F.
std::string_view python_strip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

// len(str): code points of valid UTF-8.
std::int64_t code_points(std::string_view text);

}  // namespace ptq
