// model/activation_card.h: how activations are quantized, as JSON.
#include "model/activation_card.h"

#include "temporary.h"

#include <nlohmann/json.hpp>

namespace ptq {
namespace {

using Json = nlohmann::json;

TEST(ActivationCard, RoundTrips) {
  ActivationQuant a;
  EXPECT_TRUE(to_json(a).is_null());
  EXPECT_FALSE(activations_from_json(nullptr, "card"));
  a.kind = ActivationKind::nf4;
  EXPECT_EQ(activations_from_json(to_json(a), "card").kind, ActivationKind::nf4);
  a.kind = ActivationKind::integer;
  a.bits = 6;
  a.range = ActivationRange::fixed;
  a.bmm = true;
  a.weight_bits = 4;
  a.weight_per_tensor = true;
  a.fixed = {{{1.5f, 0.1f, 3e-7f, 65504.0f}, {1, 2, 3}}, {}};
  const ActivationQuant b = activations_from_json(Json::parse(to_json(a).dump()), "card");
  EXPECT_EQ(to_json(a), to_json(b));
  EXPECT_EQ(b.fixed.at(0).input, a.fixed.at(0).input);
  EXPECT_EQ(b.fixed.at(0).qkv, a.fixed.at(0).qkv);
  EXPECT_EQ(b.range, ActivationRange::fixed);
  EXPECT_TRUE(b.bmm && b.weight_per_tensor);
  EXPECT_EQ(b.bits, 6);
  EXPECT_EQ(b.weight_bits, 4);
  a = {};
  a.kind = ActivationKind::integer;
  a.outlier_threshold = 6.0f;
  EXPECT_EQ(activations_from_json(to_json(a), "card").outlier_threshold, 6.0f);
  a.outlier_threshold = 0;
  a.range = ActivationRange::sequence;
  EXPECT_EQ(activations_from_json(to_json(a), "card").range, ActivationRange::sequence);
}

TEST(ActivationCard, OldCardsAndDamage) {
  const ActivationQuant old = activations_from_json({{"bits", 8}, {"granularity", "per-token"}}, "card");
  EXPECT_EQ(old.kind, ActivationKind::integer);
  EXPECT_EQ(old.bits, 8);
  EXPECT_EQ(old.weight_bits, 8);
  const Json good{{"kind", "integer"}, {"bits", 8}, {"range", "token"}};
  activations_from_json(good, "card");
  const auto bad = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    expect_error(Exit::data, "card", [&] { activations_from_json(json, "card"); });
  };
  bad("kind", "fp8");
  bad("bits", 9);
  bad("bits", 1);
  bad("range", "channel");
  bad("bmm", 1);
  bad("outlier_threshold", -1);
  bad("outlier_threshold", "6");
  bad("weight_bits", 1);
  bad("granularity", "per-token");
  bad("something", 1);
  bad("fixed", Json::array());
  bad("range", "fixed");
  for (const Json& fixed : {Json("x"), Json(Json::array({1})), Json(Json::array({Json::object()})),
                            Json::parse(R"([{"input": [1, 2, 3], "qkv": [1, 2, 3]}])"),
                            Json::parse(R"([{"input": [1, 2, 3, -4], "qkv": [1, 2, 3]}])"),
                            Json::parse(R"([{"input": [1, 2, 3, 1e99], "qkv": [1, 2, 3]}])")}) {
    Json json = good;
    json["range"] = "fixed";
    json["fixed"] = fixed;
    expect_error(Exit::data, "card", [&] { activations_from_json(json, "card"); });
  }
  expect_error(Exit::data, "card", [] { activations_from_json(Json::array(), "card"); });
  expect_error(Exit::data, "card", [] { activations_from_json({{"bits", 6}, {"granularity", "per-token"}}, "card"); });
}

TEST(ActivationCard, OfADirectory) {
  const TemporaryDirectory dir;
  EXPECT_FALSE(read_activations(dir.path(), 2));
  put(dir / "ptq.json", R"({"method": "gptq"})");
  EXPECT_FALSE(read_activations(dir.path(), 2));
  put(dir / "ptq.json", R"({"activations": null})");
  EXPECT_FALSE(*read_activations(dir.path(), 2));
  put(dir / "ptq.json", "[]");
  expect_error(Exit::data, "ptq.json", [&] { read_activations(dir.path(), 2); });
  ActivationQuant a;
  a.kind = ActivationKind::integer;
  a.range = ActivationRange::fixed;
  a.fixed.resize(2);
  put(dir / "ptq.json", Json{{"activations", to_json(a)}}.dump());
  EXPECT_EQ(read_activations(dir.path(), 2)->fixed.size(), 2u);
  expect_error(Exit::data, "ranges of 2 layers for a model of 3", [&] { read_activations(dir.path(), 3); });
}

}  // namespace
}  // namespace ptq
