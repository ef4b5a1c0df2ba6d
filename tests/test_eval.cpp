// eval/: aggregation, the harness's rules for contexts and continuations, and packing, against a scorer whose answers
// are known: a hash of everything that precedes the target, so that any mistake in segments, prefixes or rows shows.
#include "data/ids.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"
#include "eval/requests.h"
#include "host/error.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;

// A value in [-10, -1) that depends on every token before the target and on the target.
double hashed_logprob(std::span<const std::int32_t> before, std::int32_t token) {
  std::uint64_t h = 1469598103934665603u;
  const auto mix = [&](std::int32_t id) { h = (h ^ static_cast<std::uint32_t>(id)) * 1099511628211u; };
  for (std::int32_t id : before) mix(id);
  mix(token);
  return -1.0 - static_cast<double>((h >> 20) % 90000) / 10000.0;
}

class HashScorer : public Scorer {
 public:
  std::vector<double> logprobs(const Batch& batch, std::span<const Target> targets) const override {
    largest_batch = std::max(largest_batch, batch.tokens());
    std::vector<double> out;
    for (const Target& t : targets) {
      const auto& own = *std::find_if(batch.segments.begin(), batch.segments.end(),
                                      [&](const Segment& s) { return s.begin <= t.row && t.row < s.end; });
      Ids before;
      if (own.prefix >= 0) {
        const Segment& p = batch.segments[static_cast<std::size_t>(own.prefix)];
        EXPECT_EQ(p.prefix, -1);
        EXPECT_LE(p.end, own.begin);
        before.assign(batch.ids.begin() + p.begin, batch.ids.begin() + p.end);
      }
      before.insert(before.end(), batch.ids.begin() + own.begin, batch.ids.begin() + t.row + 1);
      out.push_back(hashed_logprob(before, t.token));
    }
    for (const Segment& s : batch.segments) EXPECT_LT(s.begin, s.end) << "empty segment";
    return out;
  }
  bool may_share_prefix(std::int64_t a, std::int64_t b) const override { return (a <= regime) == (b <= regime); }
  std::int64_t max_position() const override { return positions; }

  std::int64_t regime = 1 << 30, positions = 1 << 30;
  mutable std::int64_t largest_batch = 0;
};

// One id per byte, except that "ab" is one token (300).
class PairTokenizer final : public Tokenizer {
 public:
  Ids encode(std::string_view text) const override {
    Ids ids;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text.substr(i, 2) == "ab") {
        ids.push_back(300);
        ++i;
      } else {
        ids.push_back(static_cast<unsigned char>(text[i]));
      }
    }
    return ids;
  }
  std::string decode(std::span<const std::int32_t>) const override { return {}; }
  std::int64_t vocab_size() const override { return 303; }
  Ids prefix() const override { return {301}; }
  std::int32_t bos() const override { return 301; }
  std::int32_t eos() const override { return eos_id; }
  std::string description() const override { return "bytes and one pair"; }

  std::int32_t eos_id = 302;
};

TEST(Metrics, MeanAndStandardError) {
  const Metric m = mean_stderr(std::vector{1.0, 0.0, 0.0, 1.0, 1.0});
  EXPECT_DOUBLE_EQ(m.value, 0.6);
  EXPECT_DOUBLE_EQ(m.stderr_, std::sqrt(0.6 * 0.4 / 4));  // sqrt(p (1 - p) / (n - 1))
  EXPECT_EQ(m.n, 5);
  const Metric one = mean_stderr(std::vector{2.0});
  EXPECT_EQ(one.value, 2.0);
  EXPECT_TRUE(std::isnan(one.stderr_));
  EXPECT_EQ(metric_json(one).dump(), R"({"stderr":null,"value":2.0})");
}

TEST(Perplexity, MeansOfWindows) {
  Ids ids(23);
  std::iota(ids.begin(), ids.end(), 0);
  const HashScorer model;
  std::vector<double> expected;
  for (std::size_t w = 0; w < 4; ++w) {  // 23 = 4 windows of 5 and a tail that is dropped
    double sum = 0;
    for (std::size_t i = 1; i < 5; ++i) sum -= hashed_logprob(std::span(ids).subspan(w * 5, i), ids[w * 5 + i]);
    expected.push_back(sum / 4);
  }
  for (std::int64_t batch : {1, 5, 11, 4096}) {
    std::int64_t done = 0;
    const Perplexity p = perplexity(model, ids, {.seqlen = 5, .batch_tokens = batch, .progress = [&](auto d, auto n) {
                                                   EXPECT_GT(d, done);
                                                   EXPECT_EQ(n, 4);
                                                   done = d;
                                                 }});
    EXPECT_EQ(p.window_nll, expected);
    EXPECT_EQ(done, 4);
    const Metric nll = mean_stderr(expected);
    EXPECT_DOUBLE_EQ(p.ppl.value, std::exp(nll.value));
    EXPECT_DOUBLE_EQ(p.ppl.stderr_, std::exp(nll.value) * nll.stderr_);
    EXPECT_EQ(p.tokens, 23);
  }
  const Perplexity two = perplexity(model, ids, {.seqlen = 5, .windows = 2});
  EXPECT_EQ(two.window_nll, std::vector<double>(expected.begin(), expected.begin() + 2));
  const auto json = perplexity_json(two);
  EXPECT_EQ(json["windows"], 2);
  EXPECT_EQ(json["tokens"], 23);
  EXPECT_EQ(json["window_nll"].size(), 2u);
  EXPECT_EQ(json["ids_sha256"], ids_sha256(ids));
  EXPECT_TRUE(json["value"].is_number() && json["stderr"].is_number());
}

TEST(Perplexity, BatchesAreBounded) {
  const Ids ids(1000, 1);
  const HashScorer model;
  perplexity(model, ids, {.seqlen = 10, .batch_tokens = 64});
  EXPECT_EQ(model.largest_batch, 60);
}

TEST(Perplexity, TextBeginsWithThePrefixOnce) { EXPECT_EQ(text_ids(PairTokenizer(), "cab"), (Ids{301, 'c', 300})); }

TEST(Perplexity, BadInput) {
  const HashScorer model;
  const Ids ids(7, 1);
  expect_error(Exit::data, "7 tokens, fewer than one window of 8", [&] { perplexity(model, ids, {.seqlen = 8}); });
  expect_error(Exit::data, "0 tokens", [&] { perplexity(model, {}, {.seqlen = 8}); });
  expect_error(Exit::usage, "--seqlen", [&] { perplexity(model, ids, {.seqlen = 1}); });
  expect_error(Exit::usage, "--windows", [&] { perplexity(model, ids, {.seqlen = 2, .windows = 0}); });
  struct Broken final : HashScorer {
    std::vector<double> logprobs(const Batch& batch, std::span<const Target> targets) const override {
      std::vector<double> out = HashScorer::logprobs(batch, targets);
      out.back() = std::nan("");
      return out;
    }
  };
  expect_error(Exit::numerics, "window 2", [&] { perplexity(Broken(), ids, {.seqlen = 2}); });
}

TEST(EncodePair, HarnessRules) {
  const PairTokenizer t;
  const auto pair = [&](const char* context, const char* continuation, bool bos = false) {
    const EncodedPair p = encode_pair(t, context, continuation, bos, "test");
    return std::pair{p.context, p.continuation};
  };
  using Expected = std::pair<Ids, Ids>;
  EXPECT_EQ(pair("x", " y"), (Expected{{'x'}, {' ', 'y'}}));
  EXPECT_EQ(pair("x", " y", true), (Expected{{301, 'x'}, {' ', 'y'}}));
  // Trailing white space, Unicode's too, moves to the continuation.
  EXPECT_EQ(pair("x \xc2\xa0", "y"), (Expected{{'x'}, {' ', 0xc2, 0xa0, 'y'}}));
  // A merge across the boundary: the context is fed as encoded alone, the continuation is what the whole has beyond.
  EXPECT_EQ(pair("xa", "bc"), (Expected{{'x', 'a'}, {'c'}}));
  EXPECT_EQ(pair("", "y"), (Expected{{302}, {'y'}}));
  EXPECT_EQ(pair(" ", "y"), (Expected{{302}, {' ', 'y'}}));
  EXPECT_EQ(pair("", "y", true), (Expected{{301}, {'y'}}));
  expect_error(Exit::data, "test: the continuation has no token", [&] { pair("xa", "b"); });
  expect_error(Exit::data, "no token", [&] { pair("x", ""); });
  PairTokenizer without;
  without.eos_id = -1;
  expect_error(Exit::data, "no EOS", [&] { encode_pair(without, "", "y", false, "test"); });
}

TEST(MakeRequest, CutsFromTheLeft) {
  const EncodedPair pair{{1, 2, 3}, {4, 5}};
  const auto input = [&](std::int64_t max_length) { return make_request(pair, max_length, "test").input; };
  EXPECT_EQ(input(9), (Ids{1, 2, 3, 4}));  // the last token is only predicted
  EXPECT_EQ(input(4), (Ids{1, 2, 3, 4}));
  EXPECT_EQ(input(3), (Ids{2, 3, 4}));
  EXPECT_EQ(input(2), (Ids{3, 4}));
  EXPECT_EQ(make_request(pair, 2, "test").n_ctx, 3);  // reported as before the cut
  expect_error(Exit::data, "test: the continuation has 2 tokens, more than the model's 1", [&] { input(1); });
}

Task questions() {
  Task task{.name = "toy", .normalized = true, .documents = {}, .sources = {}};
  const auto add = [&](std::vector<std::string> contexts, std::vector<std::string> continuations, int gold) {
    ChoiceDocument d;
    d.id = static_cast<std::int64_t>(task.documents.size());
    d.gold = gold;
    for (const std::string& c : continuations) d.chars.push_back(static_cast<std::int64_t>(c.size()) - 1);
    d.contexts = std::move(contexts);
    d.continuations = std::move(continuations);
    task.documents.push_back(d);
  };
  add({"Question", "Question", "Question"}, {" one", " on", " two"}, 0);  // " on" predicts inside the shared prefix
  add({"the cat", "the dog"}, {" ran", " ran"}, 1);                       // one context per choice
  add({"x", "y"}, {" ran", " ran"}, 1);                                   // nothing in common
  add({"same", "same"}, {" z", " z"}, 0);                                 // identical requests
  return task;
}

// The definition, without packing or sharing.
std::vector<std::vector<double>> direct_scores(const Task& task) {
  const PairTokenizer t;
  std::vector<std::vector<double>> scores;
  for (const ChoiceDocument& d : task.documents) {
    auto& document = scores.emplace_back();
    for (std::size_t i = 0; i < d.contexts.size(); ++i) {
      Ids ids = t.encode(d.contexts[i]);
      double sum = 0;
      for (std::int32_t token : t.encode(d.continuations[i])) {
        sum += hashed_logprob(ids, token);
        ids.push_back(token);
      }
      document.push_back(sum);
    }
  }
  return scores;
}

TEST(MultipleChoice, SharingAndPackingChangeNothing) {
  const Task task = questions();
  const auto expected = direct_scores(task);
  for (std::int64_t batch : {1, 20, 4096}) {
    for (bool share : {true, false}) {
      HashScorer model;
      if (!share) model.regime = 5;  // prefixes and whole inputs fall into different rope regimes
      const ChoiceResult r = multiple_choice(model, PairTokenizer(), task, {.batch_tokens = batch});
      ASSERT_EQ(r.items.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(r.items[i].ll, expected[i]) << "document " << i << " batch " << batch << " share " << share;
        EXPECT_EQ(r.items[i].doc_id, static_cast<std::int64_t>(i));
      }
      EXPECT_EQ(r.items[0].n_ctx, (std::vector<std::int64_t>{8, 8, 8}));
      EXPECT_EQ(r.items[0].n_cont, (std::vector<std::int64_t>{4, 3, 4}));
    }
  }
}

TEST(MultipleChoice, SharedTokensRunOnce) {
  const HashScorer model;
  const ChoiceResult r = multiple_choice(model, PairTokenizer(), questions(), {});
  // Inputs less their last token: 11 10 11 with 9 in common; 10 10 with 4; 4 4 with 0; 5 5 with 5.
  EXPECT_EQ(r.tokens_run, (9 + 2 + 1 + 2) + (4 + 6 + 6) + (4 + 4) + 5);
  EXPECT_EQ(model.largest_batch, r.tokens_run);
}

TEST(MultipleChoice, PrefixAcrossRopeRegimesIsNotShared) {
  HashScorer model;
  model.regime = 9;  // the shared 9 tokens are in the first regime, the inputs of 10 and 11 in the second
  const std::vector<Request> requests{{Ids(11, 1), {1}, 11}, {Ids(9, 1), {1}, 9}};
  EXPECT_EQ(shared_prefix(model, requests), 0);
  model.regime = 20;
  EXPECT_EQ(shared_prefix(model, requests), 9);
}

// Scores given per choice, through a scorer that looks the first token of the continuation up.
TEST(MultipleChoice, AccuracyTiesAndNormalisation) {
  struct Table final : HashScorer {
    std::vector<double> logprobs(const Batch&, std::span<const Target> targets) const override {
      std::vector<double> out;
      for (const Target& t : targets) out.push_back(t.token == 'P' ? -2.0 : t.token == 'Q' ? -3.0 : 0.0);
      return out;
    }
  };
  Task task{.name = "toy", .normalized = true, .documents = {}, .sources = {}};
  // ll -2 -3 -2: the first of the tie; per character -2 -0.75 -2: the second.
  task.documents.push_back({0, {"c", "c", "c"}, {" P", " Qzzz", " P"}, {1, 4, 1}, 1});
  task.documents.push_back({1, {"c", "c", "c"}, {" P", " Qzzz", " P"}, {1, 4, 1}, 0});
  task.documents.push_back({2, {"c", "c", "c"}, {" P", " Qzzz", " P"}, {1, 4, 1}, 2});
  ChoiceResult r = multiple_choice(Table(), PairTokenizer(), task, {});
  EXPECT_EQ(r.items[0].pred, 0);
  EXPECT_EQ(r.items[0].pred_norm, 1);
  EXPECT_DOUBLE_EQ(r.acc.value, 1.0 / 3);
  EXPECT_DOUBLE_EQ(r.acc.stderr_, std::sqrt(1.0 / 3 * 2.0 / 3 / 2));
  EXPECT_DOUBLE_EQ(r.acc_norm.value, 1.0 / 3);
  EXPECT_EQ(choice_json(r)["n"], 3);
  const std::string lines = items_jsonl(r);
  EXPECT_EQ(lines.substr(0, lines.find('\n')),
            R"({"task":"toy","doc_id":0,"ll":[-2.0,-3.0,-2.0],"n_ctx":[1,1,1],"n_cont":[2,5,2],"chars":[1,4,1],)"
            R"("pred":0,"pred_norm":1,"gold":1,"acc":0,"acc_norm":1})");
  task.normalized = false;
  r = multiple_choice(Table(), PairTokenizer(), task, {});
  EXPECT_FALSE(choice_json(r).contains("acc_norm"));
  EXPECT_EQ(items_jsonl(r).find("norm"), std::string::npos);
}

TEST(MultipleChoice, BadInput) {
  HashScorer model;
  model.positions = 3;
  expect_error(Exit::data, "toy document 0 choice 0: the continuation has 4 tokens",
               [&] { multiple_choice(model, PairTokenizer(), questions(), {}); });
  EXPECT_EQ(multiple_choice(model, PairTokenizer(), questions(), {.max_length = 4}).items.size(), 4u);
  struct Broken final : HashScorer {
    std::vector<double> logprobs(const Batch&, std::span<const Target> targets) const override {
      return std::vector<double>(targets.size(), -INFINITY);
    }
  };
  expect_error(Exit::numerics, "toy document 0 choice 0",
               [&] { multiple_choice(Broken(), PairTokenizer(), questions(), {}); });
}

}  // namespace
}  // namespace ptq
