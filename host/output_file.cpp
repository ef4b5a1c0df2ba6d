#include "host/output_file.h"

#include "host/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string>

namespace ptq {

namespace {

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// ".ptq-HOST.NS-PID-N.tmp". NS numbers the process ids: two containers of one machine may have the same host name and
// know nothing of each other's processes.
constexpr std::string_view temporary_prefix = ".ptq-", temporary_suffix = ".tmp";

std::string writer_name() {
  std::string writer = host_name();
  std::array<char, 64> link{};  // "pid:[4026531836]"
  const ssize_t n = ::readlink("/proc/self/ns/pid", link.data(), link.size() - 1);
  writer += '.';
  for (ssize_t i = 0; i < n; ++i) {
    const char c = link[static_cast<std::size_t>(i)];
    if ('0' <= c && c <= '9') writer += c;
  }
  return writer;
}

// The process that writes a temporary file, if it is one of this machine; else 0.
pid_t writer_of(std::string_view name) {
  const std::string own = fmt::format("{}{}-", temporary_prefix, writer_name());
  if (!name.starts_with(own) || !name.ends_with(temporary_suffix)) return 0;
  const char *begin = name.data() + own.size(), *end = name.data() + name.size() - temporary_suffix.size();
  pid_t pid = 0;
  unsigned number = 0;
  const auto [dash, first] = std::from_chars(begin, end, pid);
  if (first != std::errc{} || dash == end || *dash != '-') return 0;  // of a host whose name begins like this one's
  const auto [stop, second] = std::from_chars(dash + 1, end, number);
  return second == std::errc{} && stop == end && pid > 0 ? pid : 0;
}

}  // namespace

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

Exit creation_failure(int error) {
  return error == ENOSPC || error == EDQUOT || error == EIO || error == EFBIG ? Exit::io : Exit::create;
}

OutputFile::OutputFile(const std::filesystem::path& path) : path_(path) {
  struct stat status {};
  require(::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode), Exit::create,
          "{}: cannot be replaced: it exists and is not a regular file", path.string());
  static std::atomic<unsigned> counter = 0;
  do {
    temporary_ = directory_of(path) /
                 fmt::format("{}{}-{}-{}{}", temporary_prefix, writer_name(), ::getpid(), counter++, temporary_suffix);
    fd_ = Descriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  } while (fd_.get() < 0 && errno == EEXIST);
  if (fd_.get() < 0) {
    const int error = errno;
    temporary_.clear();
    fail(creation_failure(error), "{}: cannot be created: {}", path.string(), std::strerror(error));
  }
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

bool is_temporary(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  return name.starts_with(temporary_prefix) && name.ends_with(temporary_suffix);
}

void remove_if_leftover(const std::filesystem::path& file) {
  struct stat status {};
  if (!is_temporary(file) || ::lstat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  constexpr std::time_t day = 24 * 60 * 60;
  const pid_t writer = writer_of(file.filename().string());
  const bool dead = writer > 0 && ::kill(writer, 0) != 0 && errno == ESRCH;
  if (dead || std::time(nullptr) - status.st_mtime > day) ::unlink(file.c_str());
}

void OutputFile::reserve(Size bytes) {
  if (bytes == Size(0)) return;
  const bool done = ::fallocate(fd_.get(), 0, 0, bytes.signed_value()) == 0;
  require(done || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR, Exit::io, "{}: no room for {} bytes: {}",
          path_.string(), bytes.value(), std::strerror(errno));
}

void OutputFile::write(std::string_view bytes, Size offset) {
  auto at = offset.signed_value();
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_.get(), bytes.data(), std::min<std::size_t>(bytes.size(), std::size_t{1} << 30), at);
    if (n < 0 && errno == EINTR) continue;
    require(n > 0, Exit::io, "{}: write error at byte {}: {}", path_.string(), at,
            std::strerror(n == 0 ? ENOSPC : errno));
    bytes.remove_prefix(static_cast<std::size_t>(n));
    at += n;
  }
}

void OutputFile::publish() {
  require(::fsync(fd_.get()) == 0, Exit::io, "{}: cannot be synced: {}", path_.string(), std::strerror(errno));
  require(::close(fd_.release()) == 0, Exit::io, "{}: cannot be closed: {}", path_.string(), std::strerror(errno));
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, Exit::io, "{}: cannot be renamed into place: {}",
          path_.string(), std::strerror(errno));
  temporary_.clear();
  sync_directory(directory_of(path_));
}

void sync_directory(const std::filesystem::path& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a directory (EINVAL); what was done in it has succeeded.
  require(directory.get() >= 0 && (::fsync(directory.get()) == 0 || errno == EINVAL), Exit::io,
          "{}: the directory cannot be synced: {}", path.string(), std::strerror(errno));
}

}  // namespace ptq
