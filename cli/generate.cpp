#include "eval/generate.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace ptq {

namespace {

struct Options {
  ModelOptions model;
  std::string prompt;
  GenerateOptions generate;
  bool ignore_eos = false, json = false;
};

nlohmann::ordered_json to_json(const Options& o, const Generation& g, const Transformer& model,
                               const std::vector<std::int32_t>& prompt, const std::string& text) {
  nlohmann::ordered_json cost = cost_json(model);
  cost["cache_bytes"] = g.cache_bytes;
  cost["prefill_tokens_per_second"] = g.prefill_rate();
  cost["decode_tokens_per_second"] = g.decode_rate();
  return {{"prompt", o.prompt},
          {"text", text},
          {"prompt_ids", prompt},
          {"ids", g.ids},
          {"cost", cost},
          {"activations", activations_name(model)},
          {"device", model.ops().description()}};
}

void run(Options o, const GlobalOptions& global) {
  const auto directory = resolve_model(o.model.model);
  const auto ops = global.open_device();
  const auto tokenizer = load_tokenizer(directory);
  std::vector<std::int32_t> prompt = tokenizer->prefix();
  const std::vector<std::int32_t> content = tokenizer->encode(o.prompt);
  prompt.insert(prompt.end(), content.begin(), content.end());
  require(!prompt.empty(), Exit::usage, "generate: the prompt has no tokens; give --prompt some text");
  const auto length = static_cast<std::int64_t>(prompt.size());
  const auto model = load_model(directory, o.model.products, *ops, global.compute_dtype(),
                                {.tokens = length, .logits = 1, .cached = length + o.generate.tokens});

  o.generate.seed = global.seed;
  if (!o.ignore_eos) o.generate.stops = {tokenizer->eos(), model->config().eos};
  TextStream stream(*tokenizer, prompt);
  std::string text;
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (o.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  const Generation g = generate(*model, prompt, o.generate, [&](std::int32_t id) {
    stop_if_interrupted();
    const auto& stops = o.generate.stops;
    if (std::find(stops.begin(), stops.end(), id) == stops.end()) show(stream.push(id));
  });
  show(stream.finish());
  if (o.json) {
    fmt::print("{}\n", to_json(o, g, *model, prompt, text).dump(1));
    return;
  }
  fmt::print("\n");
  std::fflush(stdout);
  constexpr double mib = 1 << 20;
  fmt::print(stderr,
             "prefill {} tokens at {:.1f} tokens/s, decode {} at {:.1f} tokens/s; {:.2f} bits per weight, weights "
             "{:.1f} MiB, cache {:.1f} MiB, peak {} MiB\n",
             g.prompt_tokens, g.prefill_rate(), g.ids.size() - 1, g.decode_rate(),
             model->linear_memory().bits_per_weight(), static_cast<double>(model->weight_bytes()) / mib,
             static_cast<double>(g.cache_bytes) / mib, peak_memory() >> 20);
}

}  // namespace

void add_generate(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("generate", "Continues a prompt; reports speed and memory");
  command->footer("Example: ptq generate models/SmolLM2-135M --prompt \"The capital of France is\" --tokens 32");
  auto o = std::make_shared<Options>();
  add_model_options(*command, o->model);
  command->add_option("--prompt", o->prompt, "text to continue")->required();
  command->add_option("--tokens", o->generate.tokens, "tokens to add at most")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--temperature", o->generate.temperature, "0: the most likely token; else draw with --seed")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", o->generate.top_k, "draw among the k most likely; 0: all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--top-p", o->generate.top_p, "draw among the fewest tokens of this probability")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  command->add_flag("--ignore-eos", o->ignore_eos, "go on after the end token");
  command->add_flag("--json", o->json, "print ids, text and figures as JSON instead");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq
