// What this machine has for a grid, and what the grid does not fit into.
#pragma once

#include "cli/grid_options.h"

#include <optional>
#include <string>
#include <vector>

namespace ptq {

// Largest needs of a job's cells, of one model or of all.
struct GridNeeds {
  double host = 0, host_with_layers_on_disk = 0, device = 0, device_least = 0;
  double results = 0, partial = 0;  // bytes on disk: sum of the results, largest of the cells in progress
};

GridNeeds needs_of(const GridJob& job, std::optional<std::size_t> model = std::nullopt);

// Bytes that this process may still use: of the machine and of its control group. 0 if the system does not tell.
double available_memory();
// Bytes free for a directory that may not exist yet. 0 if unknown.
double available_disk(const std::filesystem::path& directory);

struct Obstacle {
  Exit code;
  std::string reason;  // what does not fit, by how much, and the lever
};

// `device_memory`: of the device that --device names; empty on the CPU.
std::vector<Obstacle> obstacles(const GridJob& job, const std::filesystem::path& store,
                                std::optional<double> device_memory);

}  // namespace ptq
