// What a mistyped name may have meant.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// At most `count` of `names`, nearest first: those that begin with the first three letters of `typed`, then by the
// number of letters to insert, delete or change. Upper and lower case are the same here.
std::vector<std::string> near_names(std::string_view typed, std::span<const std::string> names, std::size_t count = 5);

}  // namespace ptq
