#include "quant/output_directory.h"

#include "host/error.h"
#include "model/activation_card.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace ptq {

namespace fs = std::filesystem;

namespace {

void flush_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(fd >= 0, Exit::io, "{}: cannot open to flush: {}", path.string(), std::strerror(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems cannot flush a directory; that is no reason to discard the result.
  require(result == 0 || error == EINVAL, Exit::io, "{}: cannot flush: {}", path.string(), std::strerror(error));
}

bool is_vacant(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return true;
  return fs::is_directory(fs::symlink_status(path, error)) && fs::is_empty(path, error) && !error;
}

}  // namespace

OutputDirectory::OutputDirectory(const fs::path& target, bool force, std::uintmax_t bytes) {
  std::error_code error;
  target_ = fs::absolute(target, error).lexically_normal();
  if (!target_.has_filename()) target_ = target_.parent_path();  // a trailing slash
  require(!error && target_.has_filename(), Exit::create, "{}: not a usable output directory", target.string());
  if (!is_vacant(target_)) {
    require(force, Exit::create, "{}: already exists; choose another directory or give --force", target.string());
    require(fs::is_regular_file(target_ / card_name, error), Exit::create,
            "{}: exists and was not written by ptq (no {}); --force does not replace it, remove it yourself",
            target.string(), card_name);
  }
  const fs::path parent = target_.parent_path();
  require(fs::is_directory(parent, error), Exit::create, "{}: the directory {} does not exist", target.string(),
          parent.string());
  const fs::space_info space = fs::space(parent, error);
  const bool known = !error && space.capacity > 0;  // pseudo file systems report nothing
  require(!known || space.available >= bytes, Exit::io, "{}: disk full: {} MiB needed, {} MiB free", parent.string(),
          bytes >> 20, space.available >> 20);

  partial_ = parent / fmt::format(".{}.partial-{}", target_.filename().string(), ::getpid());
  fs::remove_all(partial_, error);  // of a dead process that had our id
  require(::mkdir(partial_.c_str(), 0777) == 0, Exit::create, "{}: cannot create: {}", partial_.string(),
          std::strerror(errno));
}

OutputDirectory::~OutputDirectory() {
  std::error_code ignored;
  if (!published_) fs::remove_all(partial_, ignored);
}

void OutputDirectory::publish() {
  flush_directory(partial_);
  const auto failed = [&] {
    fail(Exit::io, "{}: cannot rename the finished output to it: {}", target_.string(), std::strerror(errno));
  };
  std::error_code error;
  if (is_vacant(target_)) {
    if (::rename(partial_.c_str(), target_.c_str()) != 0) failed();
    published_ = true;
  } else {
    // Exchanged in one step where the file system can, so that there is never a moment without an output.
    const fs::path old = partial_.string() + ".old";
    if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
      published_ = true;
      fs::remove_all(partial_, error);
    } else {
      if (::rename(target_.c_str(), old.c_str()) != 0) failed();
      if (::rename(partial_.c_str(), target_.c_str()) != 0) {
        const int reason = errno;
        ::rename(old.c_str(), target_.c_str());
        errno = reason;
        failed();
      }
      published_ = true;
      fs::remove_all(old, error);
    }
  }
  flush_directory(target_.parent_path());
}

}  // namespace ptq
