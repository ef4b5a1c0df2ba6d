#include "model/regex.h"

#include "host/error.h"
#include "model/unicode.h"
#include "model/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

namespace ptq {

namespace {

// Backtracking limits: far above what the patterns of real tokenizers need on megabytes of one character class, low
// enough that a hostile pattern stops within seconds.
constexpr std::uint32_t match_limit = 50'000'000;
constexpr std::uint32_t heap_limit_kib = 64 << 10;
constexpr std::size_t jit_stack_bytes = std::size_t{8} << 20;
constexpr std::size_t pattern_limit = std::size_t{64} << 10;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

// Rewrites an Oniguruma pattern (Ruby syntax) for PCRE2, refusing what differs.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& origin) : in_(pattern), origin_(origin) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (class_depth_ > 0) {
        inside_class();
      } else if (c == '[') {
        class_depth_ = 1;
        copy(in_.substr(at_, 2) == "[^" ? 2 : 1);
      } else if (c == '(' && in_.substr(at_, 2) == "(?") {
        group();
      } else if (c == '}' && in_.substr(at_, 2) == "}+") {
        refuse("a quantifier {..}+");
      } else {
        copy(1);
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail(Exit::data, "{}: pattern uses {} (at character {}), which PCRE2 understands differently", origin_, construct,
         at_);
  }

  void copy(std::size_t n) {
    n = std::min(n, in_.size() - at_);
    out_.append(in_.substr(at_, n));
    at_ += n;
  }

  void escape() {
    const char c = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    // Other definitions (\w, \b), other meanings (\h is a hexadecimal digit) or other syntax (\k, \g).
    if (std::string_view("wWbBhHRXKGkgQECcNOyY").find(c) != std::string_view::npos && c != '\0') {
      refuse(std::string("\\") + c);
    }
    if (c == 'p' || c == 'P') return property();
    copy(2);
  }

  // \p{Name}: general categories are the same. A bare script name is Script in Oniguruma, Script_Extensions in PCRE2.
  void property() {
    const std::size_t close = in_.find('}', at_);
    if (in_.substr(at_ + 2, 1) != "{" || close == std::string_view::npos) return copy(2);
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    out_.append(in_.substr(at_, 3));
    if (negated) out_ += '^';
    if (name.size() > 2) out_ += "sc:";
    out_.append(name);
    out_ += '}';
    at_ = close + 1;
  }

  // Oniguruma has nested classes (a union) and intersections.
  void inside_class() {
    if (in_.substr(at_, 2) == "&&") refuse("a class intersection &&");
    if (in_[at_] == '[') {
      if (in_.substr(at_, 2) == "[:") refuse("a POSIX class");
      if (in_.substr(at_, 2) == "[^") refuse("a negated class in a class");
      ++class_depth_;
      ++at_;
    } else if (in_[at_] == ']') {
      if (--class_depth_ == 0) {
        copy(1);
      } else {
        ++at_;
      }
    } else {
      copy(1);
    }
  }

  // (?flags) applies to the rest of the group in another way, and the flag m means "dot matches newline" in Ruby.
  void group() {
    std::size_t i = at_ + 2;
    while (i < in_.size() && (in_[i] == 'i' || in_[i] == '-')) ++i;
    const char next = i < in_.size() ? in_[i] : '\0';
    const bool flags_only = next == ')' && i > at_ + 2;
    if (flags_only && at_ != 0) refuse("an option (?..) that is not at the start");
    const bool known = flags_only || next == ':' ||
                       (i == at_ + 2 && std::string_view("=!>").find(next) != std::string_view::npos) ||
                       in_.substr(at_, 4) == "(?<=" || in_.substr(at_, 4) == "(?<!";
    if (!known || next == '\0') refuse("the group " + std::string(in_.substr(at_, 4)));
    copy(i - at_);
  }

  std::string_view in_;
  const std::string& origin_;
  std::string out_;
  std::size_t at_ = 0;
  int class_depth_ = 0;
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;

  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, std::string origin) : origin_(std::move(origin)) {
  require(pattern.size() <= pattern_limit, Exit::data, "{}: pattern of {} bytes is longer than {}", origin_,
          pattern.size(), pattern_limit);
  const std::string translated = Translator(pattern, origin_).run();
  auto code = std::make_shared<Code>();
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  require(context != nullptr, Exit::again, "out of memory for a regular expression");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's ^ and $ match at every line.
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get());
  require(code->code != nullptr, Exit::data, "{}: bad pattern at character {}: {}", origin_, offset, message_of(error));
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter does the same, slower
  code_ = std::move(code);
}

struct Regex::Matcher::State {
  explicit State(const Regex& r)
      : regex(r),
        data(pcre2_match_data_create_from_pattern(r.code_->code, nullptr)),
        context(pcre2_match_context_create(nullptr)) {
    require(data != nullptr && context != nullptr, Exit::again, "out of memory for a regular expression match");
    pcre2_set_match_limit(context, match_limit);
    pcre2_set_heap_limit(context, heap_limit_kib);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  int match(std::string_view text, std::size_t at) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const pcre2_code* code = regex.code_->code;
    int rc = pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data, context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {  // rare: most matches do with 32 KiB
      stack = pcre2_jit_stack_create(std::size_t{32} << 10, jit_stack_bytes, nullptr);
      require(stack != nullptr, Exit::again, "out of memory for a regular expression match");
      pcre2_jit_stack_assign(context, nullptr, stack);
      rc = pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data, context);
    }
    return rc;
  }

  const Regex& regex;
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack = nullptr;
  std::string storage;
};

Regex::Matcher::Matcher(const Regex& regex) : state_(std::make_unique<State>(regex)) {}
Regex::Matcher::~Matcher() = default;

void Regex::Matcher::find_all(std::string_view text, std::vector<Span>& matches) {
  matches.clear();
  const std::string_view shown = regex_view(text, state_->storage);
  const std::string& origin = state_->regex.origin_;
  bool any = false;
  for (std::size_t at = 0, last_end = 0; at <= shown.size();) {
    const int rc = state_->match(shown, at);
    if (rc == PCRE2_ERROR_NOMATCH) return;
    require(rc > 0, Exit::data, "{}: pattern cannot be matched at byte {} of {}: {}", origin, at, shown.size(),
            message_of(rc));
    const PCRE2_SIZE* where = pcre2_get_ovector_pointer(state_->data);
    const Span span{where[0], where[1]};
    require(span.begin <= span.end && span.begin >= at, Exit::data, "{}: pattern matches backwards", origin);
    const bool empty = span.begin == span.end;
    if (!empty || !any || span.end != last_end) matches.push_back(span);
    any = true;
    last_end = span.end;
    at = span.end;
    if (empty) at = at < shown.size() ? at + decode_utf8(shown, at).length : at + 1;
  }
}

}  // namespace ptq
