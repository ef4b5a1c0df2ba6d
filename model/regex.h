// Regular expressions of tokenizer files, written for Oniguruma and run by PCRE2 (UTF, UCP, JIT). A pattern with a
// construct that the two engines understand differently is refused, so a match is never silently another one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

struct Span {
  std::size_t begin = 0, end = 0;
};

class Regex {
 public:
  // Exit 65 with `origin` (file and field) if the pattern is malformed or means something else in PCRE2.
  Regex(std::string_view pattern, std::string origin);

  // Finds matches in one text after the other; for one thread at a time, the Regex outlives it.
  class Matcher {
   public:
    explicit Matcher(const Regex& regex);
    ~Matcher();
    Matcher(const Matcher&) = delete;
    Matcher& operator=(const Matcher&) = delete;

    // All matches in `text` (well-formed UTF-8) from left to right. An empty match right after the previous match
    // does not count. Exit 65 if the pattern exceeds PCRE2's match, heap or stack limit on this text.
    void find_all(std::string_view text, std::vector<Span>& matches);

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string origin_;
};

}  // namespace ptq
