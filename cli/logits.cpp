#include "cli/model_options.h"
#include "cli/progress.h"
#include "data/ids.h"
#include "host/checkpoint.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace ptq {

namespace {

struct LogitsOptions {
  ModelOptions model;
  std::string ids, out;
  bool taps = false;
};

void print_top(const Tensor& logits, std::size_t sequence, std::size_t length) {
  const auto vocab = logits.cols();
  const float* last = logits.data<float>() + (logits.rows() - 1) * vocab;
  std::vector<std::int32_t> order(static_cast<std::size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  const auto top = static_cast<std::ptrdiff_t>(std::min<std::int64_t>(5, vocab));
  std::partial_sort(order.begin(), order.begin() + top, order.end(),
                    [&](std::int32_t a, std::int32_t b) { return last[a] != last[b] ? last[a] > last[b] : a < b; });
  fmt::print("sequence {} ({} tokens):", sequence, length);
  for (std::ptrdiff_t i = 0; i < top; ++i)
    fmt::print(" {}:{:.5f}", order[static_cast<std::size_t>(i)], last[order[static_cast<std::size_t>(i)]]);
  fmt::print("\n");
}

// "self_attn.q_proj"
std::string module_in_block(const Transformer& model, int layer, LinearRole role) {
  const std::string module = model.files().linear_ref(layer, role).module, block = fmt::format("layers.{}.", layer);
  return module.substr(module.find(block) + block.size());
}

// Records what passes through the network, named hidden.<place>.N, act.block<i>.<module>.N (a linear's input) and
// out.block<i>.<module>.N (its output).
Taps record(std::map<std::string, Tensor>& out, const Transformer& model, std::size_t n) {
  const auto keep = [&out, &model, n](const std::string& name, const Tensor& t) {
    out[fmt::format("{}.{}", name, n)] = model.ops().to_host(t).to(DType::f32).clone();
  };
  Taps taps;
  taps.embedded = [=](const Tensor& h) { keep("hidden.embed", h); };
  taps.block_output = [=](int layer, const Tensor& h) { keep(fmt::format("hidden.block{}", layer), h); };
  taps.final_norm = [=](const Tensor& h) { keep("hidden.final_norm", h); };
  taps.head_input = [=](const Tensor& h) { keep("hidden.lm_head_in", h); };
  taps.stage_input = [=, &model](int layer, Stage stage, const Tensor& x) {
    for (LinearRole role : roles_of(stage, model.config()))
      keep(fmt::format("act.block{}.{}", layer, module_in_block(model, layer, role)), x);
  };
  taps.linear_output = [=, &model](int layer, LinearRole role, const Tensor& y) {
    keep(fmt::format("out.block{}.{}", layer, module_in_block(model, layer, role)), y);
  };
  return taps;
}

void run(const LogitsOptions& o, const GlobalOptions& global) {
  require(!o.taps || !o.out.empty(), Exit::usage, "logits: --taps needs --out F.safetensors");
  const auto sequences = read_id_lines(o.ids);
  require(!sequences.empty(), Exit::data, "{}: no token ids in it", o.ids);
  const auto ops = global.open_device();
  const auto loaded =
      load_model(resolve_model(o.model.model), o.model.products, *ops, global.compute_dtype(), one_by_one(sequences));
  const Transformer& model = *loaded;

  Progress progress(progress_mode(global.progress));
  std::map<std::string, Tensor> out;
  std::int64_t bad = 0;
  for (std::size_t n = 0; n < sequences.size(); ++n) {
    Batch batch;
    batch.append(sequences[n]);
    Taps taps;
    if (o.taps) taps = record(out, model, n);
    const Tensor device_logits = model.logits(model.forward(batch, &taps), &taps);
    bad += ops->count_nonfinite(device_logits);
    const Tensor logits = ops->to_host(device_logits);
    if (o.out.empty())
      print_top(logits, n, sequences[n].size());
    else
      out[fmt::format("logits.{}", n)] = logits;
    progress.update("sequences", static_cast<std::int64_t>(n + 1), static_cast<std::int64_t>(sequences.size()));
  }
  progress.finish();
  if (!o.out.empty()) write_safetensors(o.out, out);
  if (bad > 0) fmt::print(stderr, "ptq: warning: {} logits are not finite\n", bad);
}

}  // namespace

void add_logits(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("logits", "Logits of given token sequences");
  command->footer("Example: ptq logits models/opt-125m --ids ids.txt --out logits.safetensors");
  auto o = std::make_shared<LogitsOptions>();
  add_model_options(*command, o->model);
  command->add_option("--ids", o->ids, "file with one sequence of token ids per line")->required();
  command->add_option("--out", o->out, "write float32 logits.N [T,V] here; without it the top 5 are printed");
  command->add_flag("--taps", o->taps, "also write the hidden states and every linear's input and output");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq
