#include "quant/matrix.h"
#include "cli/quant_options.h"

namespace ptq {

namespace {

struct Options {
  std::string input, output;
  QuantOptions quant;
};

void run(const Options& o, const GlobalOptions& global) {
  const QuantSpec spec = o.quant.spec();
  const auto ops = global.open_device();
  const MatrixReport r = quantize_matrix(*ops, o.input, spec, o.output);
  fmt::print("{} [{}, {}] error {:.6g} relative {:.6g}", scheme_name(spec), r.rows, r.columns, r.error,
             r.relative_error);
  if (spec.method == Method::gptq)
    fmt::print(" dead {} damp {} retries {}", r.factor.dead_columns, r.factor.damp, r.factor.retries);
  if (spec.method == Method::awq) fmt::print(" best ratio {}", r.best_ratio);
  fmt::print("\n");
}

}  // namespace

void add_matrix(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("matrix", "Quantizes one weight matrix, for study and comparison");
  command->footer(
      "CASE holds W [N,K] and, where the method needs them, inputs X [S,T,K] (gptq: or their Hessian H [K,K]). The\n"
      "result holds Q, codes, scales, err_rows and, as the method has them, zeros, g_idx, perm, t, loss.\n"
      "Example: ptq matrix case.safetensors --method gptq --bits 4 --group 128 --asym --out result.safetensors");
  auto o = std::make_shared<Options>();
  command->add_option("CASE", o->input, "safetensors file with W, and X or H")->required();
  command->add_option("--out", o->output, "result, a safetensors file")->required();
  add_quant_options(*command, o->quant);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq
