#include "host/output_file.h"

#include "host/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace ptq {

namespace {

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

Exit code_of(int error) {
  return error == ENOSPC || error == EDQUOT || error == EIO || error == EFBIG ? Exit::io : Exit::create;
}

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path) : path_(path) {
  struct stat status {};
  require(::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode), Exit::create,
          "{}: cannot be replaced: it exists and is not a regular file", path.string());
  static std::atomic<unsigned> counter = 0;
  do {
    temporary_ = directory_of(path) / fmt::format(".ptq-{}-{}.tmp", ::getpid(), counter++);
    fd_ = Descriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  } while (fd_.get() < 0 && errno == EEXIST);
  if (fd_.get() < 0) {
    const int error = errno;
    temporary_.clear();
    fail(code_of(error), "{}: cannot be created: {}", path.string(), std::strerror(error));
  }
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
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
  const Descriptor directory(::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a directory (EINVAL); the rename itself has succeeded.
  require(directory.get() >= 0 && (::fsync(directory.get()) == 0 || errno == EINVAL), Exit::io,
          "{}: its directory cannot be synced: {}", path_.string(), std::strerror(errno));
}

}  // namespace ptq
