#include "cli/options.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace ptq {

namespace {

void run(const GlobalOptions& global, bool json) {
  const std::string cpu = make_cpu_ops(global.threads)->description();
  if (json) {
    fmt::print("{}\n", nlohmann::json{{"devices", {{{"name", "cpu"}, {"description", cpu}}}}}.dump(2));
  } else {
    fmt::print("{}\ncuda: not in this build\nsimt: not in this build\n", cpu);
  }
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
