#include "cli/options.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace ptq {

namespace {

std::vector<std::string> gpus() {
#ifdef PTQ_WITH_CUDA
  return cuda_devices();
#else
  return {};
#endif
}

void run(const GlobalOptions& global, bool json) {
  const std::vector<std::string> cuda = gpus();
  auto list = nlohmann::json::array();
  list.push_back({{"name", "cpu"}, {"description", make_cpu_ops(global.threads)->description()}});
  list.push_back({{"name", "simt"}, {"description", make_simt_ops()->description()}});
  for (std::size_t i = 0; i < cuda.size(); ++i)
    list.push_back({{"name", fmt::format("cuda:{}", i)}, {"description", cuda[i]}});
  if (json) {
    fmt::print("{}\n", nlohmann::json{{"devices", list}}.dump(2));
    return;
  }
  for (const auto& device : list)
    fmt::print("{:<7} {}\n", device["name"].get<std::string>(), device["description"].get<std::string>());
#ifdef PTQ_WITH_CUDA
  if (cuda.empty()) fmt::print("cuda    no device found\n");
#else
  fmt::print("cuda    not in this build\n");
#endif
}

}  // namespace

void add_devices(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("devices", "What hardware and libraries are seen");
  command->footer("Example: ptq devices");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "JSON on standard output");
  command->callback([&global, json] { run(global, *json); });
}

}  // namespace ptq
