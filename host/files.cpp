#include "host/files.h"

#include "host/error.h"
#include "host/input_file.h"
#include "host/output_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

namespace ptq {

namespace {

// A pipe or terminal that the user names explicitly (/dev/stdin, <(...)) is read to its end; anywhere else only
// regular files are read, because a FIFO lying in a checkpoint would hang the program.
std::string read_stream(const std::filesystem::path& path, std::string_view what, Size limit) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  require(fd.get() >= 0, Exit::missing, "{}: cannot open the {}: {}", path.string(), what, std::strerror(errno));
  std::string text;
  std::string chunk(std::size_t{1} << 16, '\0');
  for (;;) {
    const ssize_t n = ::read(fd.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    require(n >= 0, Exit::io, "{}: read error at byte {}: {}", path.string(), text.size(), std::strerror(errno));
    if (n == 0) return text;
    text.append(chunk, 0, static_cast<std::size_t>(n));
    require(text.size() <= limit.value(), Exit::data, "{}: the {} is larger than {} bytes", path.string(), what,
            limit.value());
  }
}

bool is_named_stream(const std::filesystem::path& path) {
  struct stat status {};
  const bool named = path == "/dev/stdin" || path.string().starts_with("/dev/fd/");
  return named && ::stat(path.c_str(), &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode));
}

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, "sha256 is not available");
  }
  void add(std::string_view bytes) {
    check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "sha256 failed");
  }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned length = 0;
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), &length) == 1, "sha256 failed");
    return fmt::format("{:02x}", fmt::join(digest.begin(), digest.begin() + length, ""));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string read_file(const std::filesystem::path& path, std::string_view what, Size limit) {
  if (is_named_stream(path)) return read_stream(path, what, limit);
  const InputFile file(path, what);
  require(file.size() <= limit, Exit::data, "{}: the {} has {} bytes, more than the limit of {}", path.string(), what,
          file.size().value(), limit.value());
  return file.read(0, file.size());
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  OutputFile file(path);
  file.write(content, 0);
  file.publish();
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 sha;
  sha.add(bytes);
  return sha.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  const InputFile file(path, "file");
  Sha256 sha;
  std::string chunk(std::size_t{1} << 20, '\0');
  for (Size at = 0; at < file.size();) {
    const Size n = std::min(file.size() - at, Size(chunk.size()));
    file.read(chunk.data(), at, n);
    sha.add(std::string_view(chunk.data(), n.index()));
    at = at + n;
  }
  return sha.hex();
}

std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace ptq
