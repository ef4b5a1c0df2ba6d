// Options shared by all subcommands, and what they resolve to.
#pragma once

#include "host/ops.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace ptq {

struct GlobalOptions {
  std::string device = "auto";
  std::string dtype = "fp32";
  int threads = 0;
  double gpu_memory = 0;  // GiB; 0: all that is free
  std::string gemm = "own";
  std::string data;  // --data, else $PTQ_DATA
  std::string progress = "auto";
  std::uint64_t seed = 0;
  std::string version;  // of the program

  // Exit 69 with the reason if the device cannot be had. step: see GpuOptions.
  std::unique_ptr<Ops> open_device(const std::string& step = {}) const;
  // What the GPU of --device is measured against: NVIDIA's libraries, and for the GPTQ sweep, which they lack, the
  // plainest rung of the ladder. Null on other devices. Exit 69 if the libraries cannot be had.
  std::unique_ptr<Ops> open_yardstick() const;
  std::size_t gpu_bytes() const;  // --gpu-memory; 0: all that is free
  DType compute_dtype() const;
  // The data directory, or an empty path if none is configured.
  std::filesystem::path data_directory() const;

 private:
  std::unique_ptr<Ops> open_gpu(const std::string& step, bool vendor) const;
};

// A model directory, or an org/name id found in the local Hugging Face cache. Exit 66 if neither.
std::filesystem::path resolve_model(const std::string& model);

// Each adds one subcommand with its options, example and action.
void add_activations(CLI::App& app, GlobalOptions& global);
void add_bench(CLI::App& app, GlobalOptions& global);
void add_calibration(CLI::App& app, GlobalOptions& global);
void add_collect(CLI::App& app, GlobalOptions& global);
void add_devices(CLI::App& app, GlobalOptions& global);
void add_eval(CLI::App& app, GlobalOptions& global);
void add_generate(CLI::App& app, GlobalOptions& global);
void add_inject(CLI::App& app, GlobalOptions& global);
void add_inspect(CLI::App& app, GlobalOptions& global);
void add_logits(CLI::App& app, GlobalOptions& global);
void add_matrix(CLI::App& app, GlobalOptions& global);
void add_plan(CLI::App& app, GlobalOptions& global);
void add_quantize(CLI::App& app, GlobalOptions& global);
void add_run(CLI::App& app, GlobalOptions& global);
void add_status(CLI::App& app, GlobalOptions& global);
void add_tokenize(CLI::App& app, GlobalOptions& global);
void add_verify_export(CLI::App& app, GlobalOptions& global);

}  // namespace ptq
