// Decoding with a KV cache: the same logits as the whole forward pass, whatever the chunks; greedy and sampled choice;
// text that arrives in whole characters; the golden continuations of SmolLM2.
#include "device.h"
#include "eval/generate.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/files.h"
#include "model/utf8.h"
#include "temporary.h"
#include "tiny_tokenizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

Ids sequence(const fs::path& directory) {
  const Tensor ids = open_safetensors(directory / "golden.safetensors")->read("input_ids", DType::i32);
  const auto row = ids.slice_rows(0, 1).span<std::int32_t>();
  return {row.begin(), row.end()};
}

Transformer load_model(const fs::path& directory, Ops& ops, DType dtype) {
  Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops, dtype);
  model.load_all();
  return model;
}

Tensor full(const Transformer& model, std::span<const std::int32_t> ids) {
  Batch batch;
  batch.append(ids);
  return model.ops().to_host(model.logits(model.forward(batch))).clone();
}

struct InChunks {
  Tensor logits;    // of all rows, a chunk at a time with a cache
  Tensor expected;  // those of the forward pass of everything up to and including each row's chunk
};

// The sequence in chunks of the given lengths, the last repeated. `whole` are the logits of the whole sequence.
InChunks in_chunks(const Transformer& model, std::span<const std::int32_t> ids, const Tensor& whole,
                   const std::vector<std::size_t>& lengths) {
  KvCache cache = model.make_cache(static_cast<std::int64_t>(ids.size()));
  InChunks out{Tensor::empty(DType::f32, whole.shape()), whole.clone()};
  const auto put_rows = [](const Tensor& to, const Tensor& from, std::size_t begin) {
    const auto first = static_cast<std::int64_t>(begin);
    std::copy_n(from.data<float>(), from.numel(), to.slice_rows(first, first + from.rows()).data<float>());
  };
  std::size_t done = 0;
  for (std::size_t i = 0; done < ids.size(); ++i) {
    const std::size_t n = std::min(lengths[std::min(i, lengths.size() - 1)], ids.size() - done), end = done + n;
    const Tensor h = model.forward_cached(ids.subspan(done, n), cache);
    put_rows(out.logits, h.rows() <= few_rows ? model.decode_logits(h) : model.ops().to_host(model.logits(h)), done);
    EXPECT_EQ(cache.length(), static_cast<std::int64_t>(end));
    if (!model.same_rope(cache.length(), static_cast<std::int64_t>(ids.size()))) {
      const Tensor shorter = full(model, ids.first(end));
      put_rows(out.expected, shorter.slice_rows(static_cast<std::int64_t>(done), shorter.rows()), done);
    }
    done = end;
  }
  return out;
}

double max_difference(const Tensor& a, const Tensor& b) {
  double worst = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::fabs(static_cast<double>(a.data<float>()[i]) - b.data<float>()[i]);
    worst = d <= worst ? worst : (std::isfinite(d) ? d : INFINITY);
  }
  return worst;
}

double rms(const Tensor& a, const Tensor* minus = nullptr) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = static_cast<double>(a.data<float>()[i]) - (minus ? minus->data<float>()[i] : 0.0f);
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.numel()));
}

// Every family: learned positions, sliding windows, rope whose frequencies depend on the length, shared heads, q/k
// norms. The tolerance is that of the goldens: ten times the reference's fp32 error.
TEST(KvCacheTest, ChunksGiveTheLogitsOfTheWholeSequence) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const double tolerance =
        read_json(directory / "golden.json", "golden").at("tolerance").at("logits_abs").get<double>();
    const Ids ids = sequence(directory);
    const Transformer model = load_model(directory, *ops, DType::f32);
    const Tensor whole = full(model, ids);
    for (const auto& lengths : {std::vector<std::size_t>{1}, {ids.size() / 2, 1}, {3, 17, 2}}) {
      const InChunks chunks = in_chunks(model, ids, whole, lengths);
      EXPECT_LE(max_difference(chunks.logits, chunks.expected), tolerance);
    }
    // More rows than linear_few takes: the very same operations as without a cache.
    ASSERT_GT(ids.size(), static_cast<std::size_t>(few_rows));
    EXPECT_EQ(max_difference(in_chunks(model, ids, whole, {ids.size()}).logits, whole), 0.0);
  }
}

// Half modes: the cache holds what attention would have read anyway. The two differ by the order of sums, which after
// rounding to halves moves the logits no more than the half mode itself does (test_model_golden.cpp).
TEST(KvCacheTest, HalfModes) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Ids ids = sequence(directory);
    for (const auto& [dtype, u] : {std::pair{DType::bf16, std::exp2(-9.0)}, std::pair{DType::f16, std::exp2(-12.0)}}) {
      const Transformer model = load_model(directory, *ops, dtype);
      const InChunks chunks = in_chunks(model, ids, full(model, ids), {7, 1});
      EXPECT_LE(rms(chunks.logits, &chunks.expected) / rms(chunks.expected),
                4.0 * u / std::sqrt(3.0) * std::sqrt(14.0 * model.config().layers + 4.0));
    }
  }
}

// Integer products are exact and attention keeps its bits with a cache, so W8A8 decoding does too.
TEST(KvCacheTest, IntegerProductsKeepTheBits) {
  const auto ops = make_test_ops();
  ActivationQuant int8;
  int8.kind = ActivationKind::integer;
  int8.weight_bits = 8;
  for (const bool bmm : {false, true}) {
    int8.bmm = bmm;
    for (const fs::path& directory : golden_models()) {
      SCOPED_TRACE(directory.filename().string());
      const Ids ids = sequence(directory);
      Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), *ops, DType::f32);
      if (!model.same_rope(1, std::ssize(ids))) continue;
      model.set_activations(int8);
      model.load_all();
      Batch batch;
      batch.append(ids);
      const Tensor whole = ops->to_host(model.forward(batch));
      KvCache cache = model.make_cache(std::ssize(ids));
      for (std::int64_t t = 0; t < std::ssize(ids); ++t) {
        const Tensor h = ops->to_host(model.forward_cached({&ids[static_cast<std::size_t>(t)], 1}, cache));
        ASSERT_EQ(max_difference(h, whole.slice_rows(t, t + 1)), 0.0) << t;
      }
    }
  }
}

TEST(KvCacheTest, GreedyEqualsTheWholeForwardPass) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Transformer model = load_model(directory, *ops, DType::f32);
    Ids ids = sequence(directory);
    ids.resize(20);
    const Generation g = generate(model, ids, {.tokens = 8});
    ASSERT_EQ(g.ids.size(), 8u);
    for (const std::int32_t id : g.ids) {
      const Tensor logits = full(model, ids);
      const auto last = logits.slice_rows(logits.rows() - 1, logits.rows()).span<float>();
      EXPECT_EQ(id, std::max_element(last.begin(), last.end()) - last.begin());
      ids.push_back(id);
    }
  }
}

TEST(KvCacheTest, RefusesWhatDoesNotFit) {
  const auto ops = make_cpu_ops(1);
  const Transformer model = load_model(fs::path(PTQ_SOURCE_DIR) / "tests/golden/models/opt", *ops, DType::f32);
  KvCache cache = model.make_cache(4);
  model.forward_cached(Ids{1, 2, 3}, cache);
  expect_error(Exit::data, "exceeds the cache of 4", [&] { model.forward_cached(Ids{1, 2}, cache); });
  EXPECT_EQ(cache.length(), 3);
  EXPECT_EQ(model.forward_cached(Ids{4}, cache).rows(), 1);
  expect_error(Exit::data, "vocabulary", [&] {
    KvCache fresh = model.make_cache(4);
    model.forward_cached(Ids{static_cast<std::int32_t>(model.config().vocab)}, fresh);
  });
  const auto positions = model.config().max_position;  // learned: there are no more
  expect_error(Exit::data, "positions", [&] { generate(model, Ids{1}, {.tokens = positions + 5}); });
  expect_error(Exit::data, "no tokens", [&] { generate(model, {}, {.tokens = 1}); });
  expect_error(Exit::usage, "--tokens", [&] { generate(model, Ids{1}, {.tokens = 0}); });
  expect_error(Exit::usage, "--top-p", [&] { generate(model, Ids{1}, {.tokens = 1, .top_p = 0.0}); });
}

TEST(Generate, StopsAfterAStopToken) {
  const auto ops = make_cpu_ops(1);
  const Transformer model = load_model(fs::path(PTQ_SOURCE_DIR) / "tests/golden/models/llama-gqa", *ops, DType::f32);
  const Generation free = generate(model, Ids{1, 2, 3}, {.tokens = 12});
  ASSERT_EQ(free.ids.size(), 12u);
  const std::int32_t stop = free.ids[5];
  const auto first = std::find(free.ids.begin(), free.ids.end(), stop) - free.ids.begin();
  Ids seen;
  const Generation g =
      generate(model, Ids{1, 2, 3}, {.tokens = 12, .stops = {stop}}, [&](std::int32_t id) { seen.push_back(id); });
  EXPECT_EQ(g.ids, Ids(free.ids.begin(), free.ids.begin() + first + 1));
  EXPECT_EQ(seen, g.ids);
  EXPECT_GT(measure_decode_rate(model, 4), 0.0);
}

// --- choosing a token ------------------------------------------------------------------------------------------------

TEST(PickToken, GreedyTakesTheFirstOfTheLargest) {
  std::mt19937_64 random;
  EXPECT_EQ(pick_token(std::vector<float>{0, 3, 1, 3}, {}, random), 1);
}

// Frequencies of 20000 draws against the softmax; five standard deviations of a binomial count.
void expect_distribution(const GenerateOptions& options, const std::vector<float>& logits,
                         const std::vector<double>& want) {
  std::mt19937_64 random(7);
  constexpr int draws = 20000;
  std::vector<int> count(logits.size());
  for (int i = 0; i < draws; ++i) ++count[static_cast<std::size_t>(pick_token(logits, options, random))];
  for (std::size_t i = 0; i < logits.size(); ++i) {
    EXPECT_NEAR(count[i], draws * want[i], 5 * std::sqrt(draws * want[i] * (1 - want[i])) + 1e-9) << i;
  }
}

TEST(PickToken, DrawsFollowTheSoftmax) {
  const std::vector<float> logits{1.0f, 2.0f, -1.0f, 0.5f};
  const auto softmax = [&](double temperature, const std::vector<bool>& kept) {
    std::vector<double> p;
    double total = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) p.push_back(kept[i] ? std::exp(logits[i] / temperature) : 0.0);
    for (double x : p) total += x;
    for (double& x : p) x /= total;
    return p;
  };
  const std::vector<bool> all(4, true);
  expect_distribution({.temperature = 1.0}, logits, softmax(1.0, all));
  expect_distribution({.temperature = 0.5}, logits, softmax(0.5, all));
  expect_distribution({.temperature = 1.0, .top_k = 2}, logits, softmax(1.0, {true, true, false, false}));
  // Probabilities 0.62, 0.23, 0.14, 0.03: the first two reach 0.8, the first reaches 0.6.
  expect_distribution({.temperature = 1.0, .top_p = 0.8}, logits, softmax(1.0, {true, true, false, false}));
  expect_distribution({.temperature = 1.0, .top_p = 0.6}, logits, softmax(1.0, {false, true, false, false}));
}

TEST(PickToken, SameSeedSameText) {
  const auto ops = make_cpu_ops(1);
  const Transformer model = load_model(fs::path(PTQ_SOURCE_DIR) / "tests/golden/models/llama-gqa", *ops, DType::f32);
  const auto draw = [&](std::uint64_t seed) {
    return generate(model, Ids{1, 2, 3}, {.tokens = 20, .temperature = 1.0, .seed = seed}).ids;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

// --- text ------------------------------------------------------------------------------------------------------------

std::vector<std::string> pieces_of(const Tokenizer& tokenizer, const Ids& context, const Ids& ids) {
  TextStream stream(tokenizer, context);
  std::vector<std::string> pieces;
  for (std::int32_t id : ids) pieces.push_back(stream.push(id));
  pieces.push_back(stream.finish());
  return pieces;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& p : pieces) {
    EXPECT_TRUE(is_utf8(p));
    all += p;
  }
  return all;
}

TEST(TextStreamTest, CharactersArriveWhole) {
  const auto tokenizer = load(byte_level_json({}));  // one id a byte
  const std::string text = "a\u00e9\u4f60\U0001F600!";
  const Ids ids = tokenizer->encode(text);
  ASSERT_EQ(ids.size(), text.size());
  const auto pieces = pieces_of(*tokenizer, tokenizer->encode("x"), ids);
  EXPECT_EQ(joined(pieces), text);
  EXPECT_EQ(pieces[1], "");  // the first byte of e with acute
  EXPECT_EQ(pieces[2], "\u00e9");
}

TEST(TextStreamTest, BytesOfNoCharacterAreShownInTheEnd) {
  const auto tokenizer = load(byte_level_json({}));
  Ids ids = tokenizer->encode("\u4f60");
  ids.pop_back();  // incomplete
  EXPECT_EQ(joined(pieces_of(*tokenizer, {}, ids)), "\uFFFD");
  const std::int32_t stray = tokenizer->encode("\u00e9").at(1);  // a continuation byte
  const std::string many = joined(pieces_of(*tokenizer, {}, Ids(40, stray)));
  EXPECT_EQ(many, tokenizer->decode(Ids(40, stray)));
}

TEST(TextStreamTest, SpacesOfSentencePieceSurvive) {
  const auto tokenizer = load(metaspace_json());
  const Ids prompt = tokenizer->encode("a b"), rest = tokenizer->encode("ab a");
  EXPECT_EQ(tokenizer->decode(rest), "ab a");  // a decoder drops the first space
  EXPECT_EQ(joined(pieces_of(*tokenizer, prompt, rest)), " ab a");
}

// --- the reference ---------------------------------------------------------------------------------------------------

TEST(GenerateGolden, SmolLm2GreedyIds) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval/smollm2.prompts.json");
  PTQ_NEED(directory, "PTQ_SMOLLM2", "config.json");
  const auto ops = make_test_ops();
  const Transformer model = load_model(directory.parent_path(), *ops, DType::f32);
  const auto tokenizer = load_tokenizer(directory.parent_path());
  const auto document = read_json(golden, "golden");
  for (const auto& prompt : document.at("prompts")) {
    SCOPED_TRACE(prompt.at("prompt").get<std::string>());
    const auto ids = prompt.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer->encode(prompt.at("prompt").get<std::string>()), ids);
    const Generation g = generate(model, ids, {.tokens = 32});
    EXPECT_EQ(g.ids, prompt.at("greedy32").get<Ids>());
    EXPECT_EQ(joined(pieces_of(*tokenizer, ids, g.ids)), prompt.at("text").get<std::string>());
  }
}

}  // namespace
}  // namespace ptq
