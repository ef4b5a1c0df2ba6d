#include "eval/partial_cell.h"

#include "data/corpora.h"
#include "eval/store.h"
#include "host/error.h"
#include "host/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ptq {

namespace fs = std::filesystem;

namespace {

constexpr const char *lock_name = "lock", *dropped_mark = ".dropped.";

bool same_file(int descriptor, const fs::path& path) {
  struct stat mine {};
  struct stat there {};
  return ::fstat(descriptor, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
         mine.st_dev == there.st_dev;
}

}  // namespace

// False if another process has it, or if the directory is not there.
bool PartialCell::take() {
  const fs::path file = directory_ / lock_name;
  while (lock_.get() < 0 && !busy_) {
    Descriptor descriptor(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (descriptor.get() < 0) {
      const int error = errno;
      if (error == ENOENT) return false;
      fail(creation_failure(error), "{}: cannot be created: {}", file.string(), std::strerror(error));
    }
    if (::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      busy_ = errno == EWOULDBLOCK;  // else there are no locks here
    }
    // Another process may have removed it between the two steps.
    if (!busy_ && same_file(descriptor.get(), file)) lock_ = std::move(descriptor);
  }
  return !busy_;
}

bool PartialCell::use_existing() { return present(directory_) && take(); }

bool PartialCell::use() {
  while (!take() && !busy_) Store::make_parent(directory_ / lock_name);
  return !busy_;
}

void PartialCell::drop() {
  if (!use_existing()) return;
  // Under another name first: whoever comes now finds nothing rather than a directory that is being emptied.
  const fs::path dropped = directory_.string() + dropped_mark + std::to_string(::getpid());
  std::error_code error;
  fs::rename(directory_, dropped, error);
  if (!error) fs::remove_all(dropped, error);
  lock_ = Descriptor();
}

void remove_dropped(const fs::path& parent) {
  std::error_code error, ignored;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().find(dropped_mark) != std::string::npos)
      fs::remove_all(entry->path(), ignored);
  }
}

}  // namespace ptq
