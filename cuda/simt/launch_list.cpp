// $PTQ_SIMT_LAUNCHES=FILE: adds a line to FILE for every launch that differs from those before it,
//   PROGRAM, OFFSET, NAME, THREADS, SMEM   between tabs
// OFFSET is the kernel's place in PROGRAM, as nm prints it for position-independent programs. So the shared memory and
// the block of every instance of a kernel are known without a GPU (bench/kernel_resources.py).
#include "cuda/simt/executor.h"
#include "host/error.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

namespace simt {

void note_launch(const char* name, const void* kernel, Extent block, std::size_t shared_bytes) {
  static const char* const path = std::getenv("PTQ_SIMT_LAUNCHES");
  if (path == nullptr) return;
  static std::mutex mutex;
  static std::set<std::tuple<const void*, std::uint64_t, std::size_t>> known;
  const std::lock_guard lock(mutex);
  if (!known.emplace(kernel, block.count(), shared_bytes).second) return;
  static std::FILE* const file = std::fopen(path, "a");
  ptq::require(file != nullptr, ptq::Exit::create, "PTQ_SIMT_LAUNCHES={}: cannot be written", path);
  Dl_info program{};
  ptq::check(dladdr(kernel, &program) != 0, "{}: a kernel outside of every program", name);
  const auto offset = static_cast<const char*>(kernel) - static_cast<const char*>(program.dli_fbase);
  static const std::string path_of_program = std::filesystem::read_symlink("/proc/self/exe").string();
  fmt::print(file, "{}\t{:x}\t{}\t{}\t{}\n", path_of_program, offset, name, block.count(), shared_bytes);
  std::fflush(file);  // whole lines, although several programs may add to it
}

}  // namespace simt
