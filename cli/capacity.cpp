#include "cli/capacity.h"

#include <algorithm>
#include <fstream>

namespace ptq {

namespace {

// The number in a file that holds nothing else; empty for "max" and files that are not there.
std::optional<double> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  double value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

double machine_memory() {
  std::ifstream info("/proc/meminfo");
  for (std::string key, unit; info >> key;) {
    double value = 0;
    info >> value;
    std::getline(info, unit);
    if (key == "MemAvailable:") return value * 1024;
  }
  return 0;
}

// Control groups (version 2) from the own one to the root: the tightest counts.
std::optional<double> group_memory() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::/")) continue;
    std::optional<double> least;
    const std::filesystem::path root = "/sys/fs/cgroup";
    for (std::filesystem::path group = line.substr(4);; group = group.parent_path()) {
      const auto most = number_in(root / group / "memory.max"), used = number_in(root / group / "memory.current");
      if (most && used) least = std::min(least.value_or(*most), std::max(0.0, *most - *used));
      if (group.empty()) break;
    }
    return least;
  }
  return std::nullopt;
}

}  // namespace

double available_memory() {
  const double machine = machine_memory();
  return std::min(machine, group_memory().value_or(machine));
}

double available_disk(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(directory, error);
  while (!there.empty() && !std::filesystem::exists(there, error) && there != there.parent_path())
    there = there.parent_path();
  const auto space = std::filesystem::space(there, error);
  return error || space.capacity == 0 ? 0 : static_cast<double>(space.available);
}

GridNeeds needs_of(const GridJob& job, std::optional<std::size_t> model) {
  GridNeeds needs;
  for (const std::size_t index : job.mine()) {
    if (model && job.grid().cells[index].model != *model) continue;
    const auto& cost = job.costs()[index];
    if (!cost) continue;
    needs.host = std::max(needs.host, cost->host);
    needs.host_with_layers_on_disk = std::max(needs.host_with_layers_on_disk, cost->host - cost->changed);
    needs.device = std::max(needs.device, cost->device);
    needs.device_least = std::max(needs.device_least, cost->device_least);
    needs.partial = std::max(needs.partial, cost->partial);
    needs.results += cost->result;
  }
  return needs;
}

std::vector<Obstacle> obstacles(const GridJob& job, const std::filesystem::path& store,
                                std::optional<double> device_memory) {
  std::vector<Obstacle> all;
  const double memory = available_memory();
  for (std::size_t m = 0; m < job.grid().model.size(); ++m) {
    const std::string& name = job.grid().model[m].name;
    const GridNeeds needs = needs_of(job, m);
    // On a GPU the host holds what quantization changed and one block; on the CPU everything.
    const double least =
        device_memory ? needs.host_with_layers_on_disk - needs.device_least : needs.host_with_layers_on_disk;
    if (memory > 0 && least > memory)
      all.push_back({Exit::again, fmt::format("{}: needs about {} of memory, {} are free; use a machine with more, a "
                                              "smaller dtype, or leave the model out of [axes]",
                                              name, bytes_text(least), bytes_text(memory))});
    if (device_memory && needs.device_least > *device_memory)
      all.push_back({Exit::again, fmt::format("{}: needs about {} of GPU memory even with its blocks streamed, {} are "
                                              "free; fewer samples or a larger GPU",
                                              name, bytes_text(needs.device_least), bytes_text(*device_memory))});
  }
  const GridNeeds whole = needs_of(job);
  const double disk = available_disk(store);
  if (!store.empty() && disk > 0 && whole.results > disk)
    all.push_back({Exit::io, fmt::format("{}: the results take about {}, {} are free; another --store, or fewer cells",
                                         store.string(), bytes_text(whole.results), bytes_text(disk))});
  return all;
}

}  // namespace ptq
