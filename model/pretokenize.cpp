#include "model/pretokenize.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/json_fields.h"
#include "model/regex.h"
#include "model/unicode.h"
#include "model/utf8.h"

#include <algorithm>
#include <optional>

namespace ptq {

namespace {

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct Cut {
  Span span;
  bool match = false;
};

Behavior behavior_of(const std::string& name, const std::string& origin) {
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail(Exit::data, "{}: unknown split behavior \"{}\"", origin, printable(name));
}

// The whole text as matches and what lies between them.
std::vector<Cut> cuts_of(const std::vector<Span>& matches, std::size_t size, bool invert) {
  std::vector<Cut> cuts;
  std::size_t done = 0;
  for (const Span& m : matches) {
    if (done < m.begin) cuts.push_back({{done, m.begin}, invert});
    cuts.push_back({m, !invert});
    done = m.end;
  }
  if (done < size) cuts.push_back({{done, size}, invert});
  return cuts;
}

void apply(Behavior behavior, const std::vector<Cut>& cuts, std::string_view text, std::vector<std::string_view>& out) {
  std::vector<Span> spans;
  bool previous = false;
  const auto fold = [&](const Cut& c) {
    const bool joins =
        !spans.empty() && (behavior == Behavior::contiguous ? c.match == previous : c.match && !previous);
    if (!joins) {
      spans.push_back(c.span);
    } else if (behavior == Behavior::merged_with_next) {
      spans.back().begin = c.span.begin;
    } else {
      spans.back().end = c.span.end;
    }
    previous = c.match;
  };
  switch (behavior) {
    case Behavior::removed:
    case Behavior::isolated:
      for (const Cut& c : cuts) {
        if (behavior == Behavior::isolated || !c.match) spans.push_back(c.span);
      }
      break;
    case Behavior::merged_with_previous:
    case Behavior::contiguous:
      std::for_each(cuts.begin(), cuts.end(), fold);
      break;
    case Behavior::merged_with_next:
      std::for_each(cuts.rbegin(), cuts.rend(), fold);
      std::reverse(spans.begin(), spans.end());
      break;
  }
  for (const Span& s : spans) {
    if (s.begin < s.end) out.push_back(text.substr(s.begin, s.end - s.begin));
  }
}

void find_literal(std::string_view text, std::string_view literal, std::vector<Span>& matches) {
  matches.clear();
  if (literal.empty()) return;
  for (std::size_t at = text.find(literal); at != std::string_view::npos;
       at = text.find(literal, at + literal.size())) {
    matches.push_back({at, at + literal.size()});
  }
}

}  // namespace

class PreTokenizer::Step {
 public:
  virtual ~Step() = default;

  // `start`: the beginning of the whole text, null if `in` is not of its first stretch.
  virtual void run(const std::vector<std::string_view>& in, const char* start, std::vector<std::string_view>& out,
                   std::deque<std::string>& owned) const = 0;
};

namespace {

class Split : public PreTokenizer::Step {
 public:
  Split(Regex pattern, Behavior behavior, bool invert)
      : regex_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  Split(std::string literal, Behavior behavior, bool invert)
      : literal_(std::move(literal)), behavior_(behavior), invert_(invert) {}

  void run(const std::vector<std::string_view>& in, const char*, std::vector<std::string_view>& out,
           std::deque<std::string>&) const override {
    std::optional<Regex::Matcher> matcher;
    if (regex_) matcher.emplace(*regex_);
    std::vector<Span> matches;
    for (std::string_view piece : in) {
      if (matcher) {
        matcher->find_all(piece, matches);
      } else {
        find_literal(piece, literal_, matches);
      }
      apply(behavior_, cuts_of(matches, piece.size(), invert_), piece, out);
    }
  }

 private:
  std::optional<Regex> regex_;
  std::string literal_;
  Behavior behavior_;
  bool invert_;
};

class Digits : public PreTokenizer::Step {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void run(const std::vector<std::string_view>& in, const char*, std::vector<std::string_view>& out,
           std::deque<std::string>&) const override {
    for (std::string_view piece : in) {
      std::size_t begin = 0;
      bool in_digits = false;
      const auto cut = [&](std::size_t at) {
        if (begin < at) out.push_back(piece.substr(begin, at - begin));
        begin = at;
      };
      for (std::size_t at = 0; at < piece.size();) {
        const CodePoint c = decode_utf8(piece, at);
        const bool digit = is_numeric(c.value);
        if (digit != in_digits || (digit && individual_)) cut(at);
        in_digits = digit;
        at += c.length;
      }
      cut(piece.size());
    }
  }

 private:
  bool individual_;
};

class PrefixSpace : public PreTokenizer::Step {
 public:
  void run(const std::vector<std::string_view>& in, const char*, std::vector<std::string_view>& out,
           std::deque<std::string>& owned) const override {
    for (std::string_view piece : in) {
      out.push_back(piece.starts_with(' ') ? piece : owned.emplace_back(std::string(1, ' ').append(piece)));
    }
  }
};

class Metaspace : public PreTokenizer::Step {
 public:
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void run(const std::vector<std::string_view>& in, const char* start, std::vector<std::string_view>& out,
           std::deque<std::string>& owned) const override {
    for (std::string_view raw : in) {
      std::string text;
      if (prepend_ == Prepend::always || (prepend_ == Prepend::first && raw.data() == start)) {
        if (!raw.starts_with(' ') && !raw.starts_with(replacement_)) text = replacement_;
      }
      for (char c : raw) c == ' ' ? text.append(replacement_) : text.append(1, c);
      const std::string_view piece = owned.emplace_back(std::move(text));
      std::vector<Span> matches;
      if (split_) find_literal(piece, replacement_, matches);
      apply(Behavior::merged_with_next, cuts_of(matches, piece.size(), false), piece, out);
    }
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

std::shared_ptr<const PreTokenizer::Step> make_split(const JsonFields& fields) {
  const JsonFields pattern = fields.object("pattern");
  const std::string origin = pattern.where();
  const Behavior behavior = behavior_of(fields.text("behavior", "absent"), fields.where());
  const bool invert = fields.boolean("invert", false);
  if (pattern.has("Regex")) {
    return std::make_shared<Split>(Regex(pattern.text("Regex", ""), origin), behavior, invert);
  }
  require(pattern.has("String"), Exit::data, "{}: a Split needs a Regex or a String", origin);
  return std::make_shared<Split>(pattern.text("String", ""), behavior, invert);
}

std::shared_ptr<const PreTokenizer::Step> make_metaspace(const JsonFields& fields) {
  const std::string replacement = fields.text("replacement", "\u2581");
  require(!replacement.empty() && decode_utf8(replacement, 0).length == replacement.size(), Exit::data,
          "{}: the replacement of Metaspace must be one character", fields.where());
  const std::string scheme =
      fields.text("prepend_scheme", fields.boolean("add_prefix_space", true) ? "always" : "never");
  using Prepend = Metaspace::Prepend;
  require(scheme == "always" || scheme == "first" || scheme == "never", Exit::data, "{}: unknown prepend_scheme \"{}\"",
          fields.where(), printable(scheme));
  const Prepend prepend = scheme == "always" ? Prepend::always : scheme == "first" ? Prepend::first : Prepend::never;
  return std::make_shared<Metaspace>(replacement, prepend, fields.boolean("split", true));
}

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& spec, const std::string& origin) {
  if (!spec.is_null()) add(spec, origin + ": pre_tokenizer");
}

PreTokenizer PreTokenizer::byte_level(std::string_view pattern, bool add_prefix_space) {
  PreTokenizer p;
  if (add_prefix_space) p.steps_.push_back(std::make_shared<PrefixSpace>());
  p.steps_.push_back(std::make_shared<Split>(Regex(pattern, "built-in pattern"), Behavior::isolated, false));
  p.byte_level_ = true;
  return p;
}

void PreTokenizer::add(const nlohmann::json& spec, const std::string& origin) {
  const JsonFields fields(spec, origin);
  const std::string type = fields.text("type", "absent");
  if (type == "Sequence") {
    const nlohmann::json* list = fields.find("pretokenizers");
    require(list != nullptr && list->is_array(), Exit::data, "{}: a Sequence needs the list pretokenizers", origin);
    for (std::size_t i = 0; i < list->size(); ++i) add((*list)[i], fmt::format("{}[{}]", origin, i));
    return;
  }
  // After ByteLevel, the text is in the byte alphabet; steps on such text are not supported.
  require(!byte_level_, Exit::data, "{}: {} after ByteLevel is not supported", origin, printable(type));
  if (type == "ByteLevel") {
    if (fields.boolean("add_prefix_space", true)) steps_.push_back(std::make_shared<PrefixSpace>());
    if (fields.boolean("use_regex", true)) steps_.push_back(byte_level(gpt2_pattern, false).steps_.back());
    byte_level_ = true;
  } else if (type == "Digits") {
    steps_.push_back(std::make_shared<Digits>(fields.boolean("individual_digits", false)));
  } else if (type == "Split") {
    steps_.push_back(make_split(fields));
  } else if (type == "Metaspace") {
    steps_.push_back(make_metaspace(fields));
    looks_at_start_ = looks_at_start_ || fields.text("prepend_scheme", "") == "first";
  } else {
    fail(Exit::data, "{}: pre-tokenizer type \"{}\" is not supported", origin, printable(type));
  }
}

Pieces PreTokenizer::split(std::string_view text, bool at_start) const {
  Pieces pieces;
  if (!text.empty()) pieces.list.push_back(text);
  std::vector<std::string_view> next;
  for (const auto& step : steps_) {
    next.clear();
    step->run(pieces.list, at_start ? text.data() : nullptr, next, pieces.owned);
    pieces.list.swap(next);
  }
  return pieces;
}

}  // namespace ptq
