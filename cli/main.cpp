// The ptq program: one subcommand per file, one line on standard error and a documented exit code on failure.
#include "cli/options.h"
#include "cli/progress.h"

#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <new>

namespace {

constexpr const char* exit_codes =
    "Exit codes: 0 ok; 2 usage; 65 malformed data; 66 missing input; 69 no such device; 70 internal error; "
    "73 cannot create; 74 I/O; 75 out of memory or interrupted, rerun; 76 numerical policy violated.";

int run(int argc, char** argv) {
  ptq::GlobalOptions global;
  global.version = PTQ_VERSION;
  CLI::App app{"Post-training quantization of language models: load, evaluate, quantize, study.", "ptq"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", PTQ_VERSION);
  app.footer(exit_codes);
  app.add_option("--device", global.device,
                 "auto (cpu), cpu, cuda[:N], or simt: the CUDA kernels executed on the CPU, slowly")
      ->check(CLI::IsMember({"auto", "cpu", "simt"}) |
              CLI::Validator([](std::string& s) { return s.rfind("cuda", 0) == 0 ? std::string() : "not a device"; },
                             "cuda[:N]"))
      ->capture_default_str();
  app.add_option("--dtype", global.dtype, "compute type")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
      ->capture_default_str();
  app.add_option("--threads", global.threads, "threads; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option(
         "--gpu-memory", global.gpu_memory,
         "GiB of GPU memory to use at most (--device cuda, simt); 0: all that is free. Weights that do not fit are "
         "streamed, two blocks at a time")
      ->check(CLI::Range(0.0, 1024.0))
      ->capture_default_str();
  app.add_option("--gemm", global.gemm,
                 "products of --device cuda: own kernels, or cuBLAS and cuSOLVER to compare with")
      ->check(CLI::IsMember({"own", "cublas"}))
      ->capture_default_str();
  app.add_option("--data", global.data, "directory of the data sets (default: $PTQ_DATA)");
  app.add_option("--progress", global.progress, "progress on standard error")
      ->check(CLI::IsMember({"auto", "bar", "lines", "json", "none"}))
      ->capture_default_str();
  app.add_option("--seed", global.seed, "seed of everything drawn at random")->capture_default_str();

  ptq::add_inspect(app, global);
  ptq::add_tokenize(app, global);
  ptq::add_logits(app, global);
  ptq::add_calibration(app, global);
  ptq::add_quantize(app, global);
  ptq::add_matrix(app, global);
  ptq::add_eval(app, global);
  ptq::add_generate(app, global);
  ptq::add_activations(app, global);
  ptq::add_inject(app, global);
  ptq::add_verify_export(app, global);
  ptq::add_plan(app, global);
  ptq::add_run(app, global);
  ptq::add_status(app, global);
  ptq::add_collect(app, global);
  ptq::add_bench(app, global);
  ptq::add_devices(app, global);

  ptq::install_interrupt_handler();
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error of write, with its own message
  std::signal(SIGPIPE, SIG_IGN);
  try {
    app.parse(argc, argv);
    return static_cast<int>(ptq::Exit::ok);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::fprintf(stderr, "ptq: %s; see ptq --help\n", e.what());
    return static_cast<int>(ptq::Exit::usage);
  }
}

int report(ptq::Exit code, const char* message) {
  std::fflush(stdout);
  std::fprintf(stderr, "ptq: %s\n", message);
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  // Activations of tens of MiB come and go with every operation; returning them to the kernel each time would cost
  // more page faults than a small model's arithmetic.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  try {
    const int code = run(argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
      return report(ptq::Exit::io, "cannot write to standard output");
    return code;
  } catch (const ptq::Error& e) {
    return report(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return report(ptq::Exit::again, "out of memory; use a smaller batch or a machine with more memory");
  } catch (const std::exception& e) {
    return report(ptq::Exit::internal, e.what());
  }
}
