// Schemes as words: scheme_name and apply_scheme (notation: quant/scheme.h).
#include "host/error.h"
#include "quant/scheme.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace ptq {

namespace {

std::string_view example_of(Method method) {
  switch (method) {
    case Method::rtn:
    case Method::gptq:
      return "w4a16-g128-sym";
    case Method::awq:
      return "w4a16-g128-asym";
    case Method::smoothquant:
    case Method::w8a8:
      return "w8a8";
    case Method::nf4:
      return "wnf4a16-b64";
  }
  return "";
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "w4a16-g128-sym": the bits of weights and activations, and a list of parts that are taken out as they are understood.
class Reader {
 public:
  Reader(Method method, std::string_view scheme) : method_(method), scheme_(scheme) {
    const auto dash = scheme.find('-');
    const std::string_view head = scheme.substr(0, dash);
    const auto a = head.find('a');
    if (!head.starts_with('w') || a == std::string_view::npos)
      wrong("it starts with the bits of weights and activations");
    weights_ = head.substr(1, a - 1);
    activations_ = head.substr(a + 1);
    if (dash == std::string_view::npos) return;
    std::string_view rest = scheme.substr(dash + 1);
    for (auto next = rest.find('-'); next != std::string_view::npos; next = rest.find('-')) {
      parts_.push_back(rest.substr(0, next));
      rest.remove_prefix(next + 1);
    }
    parts_.push_back(rest);
  }

  std::string_view weights() const { return weights_; }
  std::string_view activations() const { return activations_; }

  bool take(std::string_view part) {
    const auto it = std::find(parts_.begin(), parts_.end(), part);
    if (it == parts_.end()) return false;
    parts_.erase(it);
    return true;
  }

  // The number behind `prefix` in a part that holds nothing else, such as g128.
  template <class Number>
  std::optional<Number> take_number(std::string_view prefix) {
    for (auto it = parts_.begin(); it != parts_.end(); ++it) {
      if (!it->starts_with(prefix)) continue;
      if (const auto value = number<Number>(it->substr(prefix.size()))) {
        parts_.erase(it);
        return value;
      }
    }
    return std::nullopt;
  }

  void finish() const {
    if (!parts_.empty()) wrong(fmt::format("part '{}' is unknown, repeated or contradicts another", parts_.front()));
  }

  [[noreturn]] void wrong(const std::string& why) const {
    fail(Exit::usage, "scheme '{}' for {}: {}; an example is {}", scheme_, name_of(method_), why, example_of(method_));
  }

 private:
  Method method_;
  std::string_view scheme_, weights_, activations_;
  std::vector<std::string_view> parts_;
};

void read_weights(Reader& r, QuantSpec& spec) {
  const bool nf4 = spec.method == Method::nf4;
  if (nf4 != (r.weights() == "nf4")) r.wrong("weights in nf4 and the method nf4 go together");
  const auto bits = nf4 ? std::optional<int>(4) : number<int>(r.weights());
  if (!bits) r.wrong(fmt::format("'{}' is no number of bits", r.weights()));
  spec.bits = *bits;
  spec.group = -1;
  spec.symmetric = true;
  spec.weight_per_tensor = spec.mse = spec.act_order = spec.static_groups = spec.double_quant = false;
  if (nf4) {
    const auto block = r.take_number<std::int64_t>("b");
    if (!block) r.wrong("the block size is missing (b64)");
    spec.group = *block;
    spec.double_quant = r.take("dq");
  } else if (spec.absmax_weights()) {
    spec.weight_per_tensor = r.take("wtensor");
  } else {
    if (const auto group = r.take_number<std::int64_t>("g")) {
      if (*group < 1) r.wrong(fmt::format("a group of {} columns; whole rows are '-row'", *group));
      spec.group = *group;
    } else if (!r.take("row")) {
      r.wrong(
          fmt::format("say which columns share a scale, g<N> or row, as in w{}a{}-row-sym (without them the absmax "
                      "rule is meant: --method w8a8 or smoothquant)",
                      r.weights(), r.activations()));
    }
    spec.symmetric = r.take("sym");
    if (!spec.symmetric && !r.take("asym")) r.wrong("say which grid, sym or asym");
    spec.mse = r.take("mse");
    spec.act_order = r.take("act");
    spec.static_groups = r.take("static");
  }
}

void read_activations(Reader& r, ActivationQuant& a) {
  a = {};
  if (r.activations() == "16") return;
  if (r.activations() == "nf4") {
    a.kind = ActivationKind::nf4;
    return;
  }
  const auto bits = number<int>(r.activations());
  if (!bits) r.wrong(fmt::format("activations of '{}' bits; 16, nf4, or 2 to 8", r.activations()));
  a.kind = ActivationKind::integer;
  a.bits = *bits;
  if (r.take("atensor")) {
    a.range = ActivationRange::sequence;
  } else if (r.take("astatic")) {
    a.range = ActivationRange::fixed;
  }
  a.bmm = r.take("bmm");
  if (const auto threshold = r.take_number<float>("outliers")) {
    if (!(*threshold > 0.0f)) r.wrong("the threshold of outliers is positive, as in outliers6");
    a.outlier_threshold = *threshold;
  }
}

}  // namespace

std::string scheme_name(const QuantSpec& spec) {
  const ActivationQuant& a = spec.activations;
  std::string name = spec.method == Method::nf4 ? "wnf4" : fmt::format("w{}", spec.bits);
  name += a.kind == ActivationKind::none ? "a16" : a.kind == ActivationKind::nf4 ? "anf4" : fmt::format("a{}", a.bits);
  if (spec.method == Method::nf4) {
    name += fmt::format("-b{}", spec.group);
  } else if (!spec.absmax_weights()) {
    name += spec.group == -1 ? "-row" : fmt::format("-g{}", spec.group);
    name += spec.symmetric ? "-sym" : "-asym";
  }
  if (spec.weight_per_tensor) name += "-wtensor";
  if (spec.double_quant) name += "-dq";
  if (spec.mse) name += "-mse";
  if (spec.act_order) name += "-act";
  if (spec.static_groups) name += "-static";
  if (a.range == ActivationRange::sequence) name += "-atensor";
  if (a.range == ActivationRange::fixed) name += "-astatic";
  if (a.bmm) name += "-bmm";
  if (a.outlier_threshold > 0.0f) name += fmt::format("-outliers{}", a.outlier_threshold);
  return name;
}

void apply_scheme(QuantSpec& spec, std::string_view scheme) {
  Reader r(spec.method, scheme);
  QuantSpec changed = spec;
  read_weights(r, changed);
  read_activations(r, changed.activations);
  r.finish();
  validate(changed);
  spec = changed;
}

}  // namespace ptq
