// Schemes as words: every valid spec prints and parses back to itself, wrong words say what is wrong, options that do
// not apply to a method are refused, and what a weight costs in bits.
#include "host/error.h"
#include "quant/scheme.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

namespace ptq {
namespace {

constexpr Method all_methods[] = {Method::rtn,         Method::gptq, Method::awq,
                                  Method::smoothquant, Method::w8a8, Method::nf4};

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "";
}

bool valid(const QuantSpec& spec) {
  return refusal([&] { validate(spec); }).empty();
}

auto fields(const QuantSpec& s) {
  const ActivationQuant& a = s.activations;
  return std::make_tuple(s.method, s.bits, s.group, s.symmetric, s.weight_per_tensor, s.mse, s.act_order,
                         s.static_groups, s.double_quant, a.kind, a.kind == ActivationKind::integer ? a.bits : 0,
                         a.range, a.bmm, a.outlier_threshold);
}

std::vector<ActivationQuant> activation_variants() {
  std::vector<ActivationQuant> list(2);
  list[1].kind = ActivationKind::nf4;
  for (int bits : {2, 4, 7, 8, 9}) {
    for (ActivationRange range : {ActivationRange::token, ActivationRange::sequence, ActivationRange::fixed}) {
      for (bool bmm : {false, true}) {
        for (float threshold : {0.0f, 6.0f, 0.01f, 3.3f, 10000.0f, 1234.5678f}) {
          ActivationQuant a;
          a.kind = ActivationKind::integer;
          a.bits = bits;
          a.range = range;
          a.bmm = bmm;
          a.outlier_threshold = threshold;
          list.push_back(a);
        }
      }
    }
  }
  return list;
}

// All combinations of what a scheme names, valid or not.
void for_each_spec(const std::function<void(const QuantSpec&)>& visit) {
  const std::vector<ActivationQuant> activations = activation_variants();
  for (Method method : all_methods) {
    for (int bits = 1; bits <= 9; ++bits) {
      for (std::int64_t group : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{64}, std::int64_t{100000}}) {
        for (unsigned flags = 0; flags < 64; ++flags) {
          QuantSpec s = defaults_of(method);
          s.bits = bits;
          s.group = group;
          s.symmetric = flags & 1;
          s.mse = flags & 2;
          s.act_order = flags & 4;
          s.static_groups = flags & 8;
          s.weight_per_tensor = flags & 16;
          s.double_quant = flags & 32;
          s.activations = {};
          if (!valid(s)) continue;
          for (const ActivationQuant& a : activations) {
            s.activations = a;
            visit(s);
          }
        }
      }
    }
  }
}

TEST(Scheme, EveryValidSpecPrintsAndParsesBack) {
  int count = 0;
  std::map<std::pair<Method, std::string>, decltype(fields(QuantSpec()))> seen;
  for_each_spec([&](const QuantSpec& spec) {
    if (!valid(spec)) return;
    ++count;
    const std::string name = scheme_name(spec);
    QuantSpec parsed = defaults_of(spec.method);
    apply_scheme(parsed, name);
    ASSERT_EQ(fields(parsed), fields(spec)) << name;
    ASSERT_EQ(scheme_name(parsed), name);
    const auto [it, inserted] = seen.try_emplace({spec.method, name}, fields(spec));
    ASSERT_TRUE(inserted || it->second == fields(spec)) << name << " names two specs";
  });
  EXPECT_GT(count, 5000);
}

TEST(Scheme, NothingElseIsTouched) {
  QuantSpec spec = defaults_of(Method::gptq);
  spec.damp = 0.25;
  spec.dead = DeadPolicy::rtn;
  spec.true_sequential = false;
  const QuantSpec before = spec;
  apply_scheme(spec, "w3a16-row-asym-act");
  EXPECT_EQ(spec.damp, before.damp);
  EXPECT_EQ(spec.dead, before.dead);
  EXPECT_FALSE(spec.true_sequential);
  EXPECT_TRUE(spec.act_order);
  apply_scheme(spec, "w4a16-g128-sym");
  EXPECT_FALSE(spec.act_order);  // a scheme names all of its parts
}

TEST(Scheme, Defaults) {
  const std::map<Method, std::string> names{{Method::rtn, "w4a16-g128-sym"},  {Method::gptq, "w4a16-g128-sym"},
                                            {Method::awq, "w4a16-g128-asym"}, {Method::smoothquant, "w8a8"},
                                            {Method::w8a8, "w8a8"},           {Method::nf4, "wnf4a16-b64"}};
  for (Method m : all_methods) {
    EXPECT_EQ(scheme_name(defaults_of(m)), names.at(m));
    EXPECT_TRUE(valid(defaults_of(m)));
    EXPECT_EQ(parse_method(name_of(m)), m);
  }
  EXPECT_EQ(default_alpha("opt"), 0.5);
  EXPECT_EQ(default_alpha("llama"), 0.85);
  EXPECT_EQ(default_alpha("mistral"), 0.8);
  EXPECT_EQ(default_alpha("cohere"), 0.8);
}

TEST(Scheme, WrongWordsSayWhatIsWrong) {
  const auto message = [](Method method, const std::string& scheme) {
    QuantSpec spec = defaults_of(method);
    const auto before = fields(spec);
    const std::string text = refusal([&] { apply_scheme(spec, scheme); });
    EXPECT_FALSE(text.empty()) << scheme;
    EXPECT_EQ(fields(spec), before) << scheme << " changed the spec that it does not fit";
    return text;
  };
  using testing::AssertionResult;
  const auto contains = [](const std::string& text, const std::string& part) -> AssertionResult {
    if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
    return testing::AssertionFailure() << '"' << text << "\" lacks \"" << part << '"';
  };
  EXPECT_TRUE(contains(message(Method::rtn, "w8a8"), "w8a8-row-sym"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g128"), "sym or asym"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g128-sym-fast"), "'fast'"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g128-sym-sym"), "'sym'"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g128-sym-asym"), "'asym'"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g0-sym"), "group of 0"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g-5-sym"), "g<N> or row"));
  EXPECT_TRUE(contains(message(Method::gptq, "w4a16-g99999999999999999999-sym"), "g<N> or row"));
  EXPECT_TRUE(contains(message(Method::gptq, "w9a16-g128-sym"), "--bits 9"));
  EXPECT_TRUE(contains(message(Method::gptq, "wnf4a16-b64"), "nf4"));
  EXPECT_TRUE(contains(message(Method::nf4, "w4a16-g128-sym"), "nf4"));
  EXPECT_TRUE(contains(message(Method::nf4, "wnf4a16"), "b64"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a8-g128-sym"), "'g128'"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a8-outliers0"), "outliers6"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a8-outliersnan"), "outliers6"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a8-outliers1e9"), "0.01 to 10000"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a8-atensor-outliers6"), "per token"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a1"), "1 bits"));
  EXPECT_TRUE(contains(message(Method::w8a8, "w8a16-bmm"), "'bmm'"));
  EXPECT_TRUE(contains(message(Method::awq, "w4a8-g128-asym-astatic"), "awq"));
  EXPECT_TRUE(contains(message(Method::rtn, "w4a16-g128-sym-act"), "--act-order"));
  for (const char* nonsense :
       {"", "-", "w", "a", "wa", "wa-", "4a16", "w4", "w4a", "w4a16-", "w-4a16-row-sym", "w4.5a16-row-sym",
        "w4a16--row-sym", "w4a16-row-sym-", "W4A16-row-sym", "w+4a16-row-sym"})
    message(Method::rtn, nonsense);
}

TEST(Scheme, OptionsOfOtherMethodsAreRefused) {
  const std::vector<std::pair<std::vector<Method>, std::function<void(QuantSpec&)>>> options{
      {{Method::gptq}, [](QuantSpec& s) { s.damp = 0.1; }},
      {{Method::gptq}, [](QuantSpec& s) { s.true_sequential = false; }},
      {{Method::gptq}, [](QuantSpec& s) { s.hessian_norm = HessianNorm::per_token; }},
      {{Method::gptq}, [](QuantSpec& s) { s.on_singular = SingularPolicy::rtn; }},
      {{Method::gptq}, [](QuantSpec& s) { s.act_order = true; }},
      {{Method::gptq}, [](QuantSpec& s) { s.static_groups = true; }},
      {{Method::rtn, Method::gptq}, [](QuantSpec& s) { s.mse = true; }},
      {{Method::gptq, Method::awq}, [](QuantSpec& s) { s.dead = DeadPolicy::rtn; }},
      {{Method::awq}, [](QuantSpec& s) { s.awq_scaling = AwqScaling::duo; }},
      {{Method::awq}, [](QuantSpec& s) { s.clip = false; }},
      {{Method::smoothquant}, [](QuantSpec& s) { s.alpha = 0.5; }},
      {{Method::nf4}, [](QuantSpec& s) { s.double_quant = true; }},
      {{Method::smoothquant, Method::w8a8}, [](QuantSpec& s) { s.weight_per_tensor = true; }},
      {{Method::rtn, Method::gptq, Method::awq}, [](QuantSpec& s) { s.symmetric = false; }},
  };
  for (std::size_t i = 0; i < options.size(); ++i) {
    for (Method m : all_methods) {
      QuantSpec spec = defaults_of(m);
      options[i].second(spec);
      const auto& takers = options[i].first;
      EXPECT_EQ(valid(spec), std::find(takers.begin(), takers.end(), m) != takers.end()) << i << " " << name_of(m);
    }
  }
  QuantSpec spec = defaults_of(Method::smoothquant);
  for (double alpha : {-0.01, 1.01, std::nan(""), HUGE_VAL}) {
    spec.alpha = alpha;
    EXPECT_FALSE(valid(spec)) << alpha;
  }
}

TEST(Scheme, Calibration) {
  for (Method m : all_methods) {
    QuantSpec spec = defaults_of(m);
    EXPECT_EQ(needs_calibration(spec), m == Method::gptq || m == Method::awq || m == Method::smoothquant);
    spec.activations.kind = ActivationKind::integer;
    spec.activations.range = ActivationRange::fixed;
    EXPECT_TRUE(needs_calibration(spec));
  }
}

TEST(Scheme, BitsPerWeight) {
  const auto bits = [](Method m, const std::string& scheme, std::int64_t columns) {
    QuantSpec spec = defaults_of(m);
    apply_scheme(spec, scheme);
    return bits_per_weight(spec, columns);
  };
  EXPECT_DOUBLE_EQ(bits(Method::gptq, "w4a16-g128-sym", 4096), 4.0 + 16.0 / 128);
  EXPECT_DOUBLE_EQ(bits(Method::gptq, "w4a16-g128-asym", 4096), 4.0 + 20.0 / 128);
  EXPECT_DOUBLE_EQ(bits(Method::gptq, "w3a16-row-asym", 1024), 3.0 + 19.0 / 1024);
  EXPECT_DOUBLE_EQ(bits(Method::gptq, "w4a16-g128-sym", 200), 4.0 + 2 * 16.0 / 200);  // a short last group
  EXPECT_DOUBLE_EQ(bits(Method::w8a8, "w8a8", 512), 8.0 + 16.0 / 512);
  EXPECT_DOUBLE_EQ(bits(Method::w8a8, "w6a6-wtensor", 512), 6.0);
  EXPECT_DOUBLE_EQ(bits(Method::nf4, "wnf4a16-b64", 512), 4.5);
  EXPECT_DOUBLE_EQ(bits(Method::nf4, "wnf4a16-b64-dq", 512), 4.0 + 8.0 / 64 + 32.0 / (64 * 256));
}

}  // namespace
}  // namespace ptq
