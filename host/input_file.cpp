#include "host/input_file.h"

#include "host/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ptq {

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int Descriptor::release() { return std::exchange(fd_, -1); }

InputFile::InputFile(const std::filesystem::path& path, std::string_view what) : path_(path) {
  // O_NONBLOCK: opening a FIFO that lies where a file should be must not hang.
  fd_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd_.get() < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG;
    fail(missing ? Exit::missing : Exit::io, "{}: cannot open the {}: {}", path.string(), what, std::strerror(error));
  }
  struct stat status {};
  require(::fstat(fd_.get(), &status) == 0, Exit::io, "{}: {}", path.string(), std::strerror(errno));
  require(S_ISREG(status.st_mode), Exit::data, "{}: the {} is not a regular file", path.string(), what);
  size_ = Size(static_cast<std::uint64_t>(status.st_size));
}

void InputFile::read(void* to, Size offset, Size bytes) const {
  auto* out = static_cast<char*>(to);
  auto at = (offset + bytes).signed_value() - bytes.signed_value();
  std::size_t left = bytes.index();
  while (left > 0) {
    const ssize_t n = ::pread(fd_.get(), out, std::min<std::size_t>(left, std::size_t{1} << 30), at);
    if (n < 0 && errno == EINTR) continue;
    require(n >= 0, Exit::io, "{}: read error at byte {}: {}", path_.string(), at, std::strerror(errno));
    require(n > 0, Exit::data, "{}: the file ends at byte {}, {} more bytes expected", path_.string(), at, left);
    out += n;
    at += n;
    left -= static_cast<std::size_t>(n);
  }
}

std::string InputFile::read(Size offset, Size bytes) const {
  require(offset + bytes <= size_, Exit::data, "{}: {} bytes at byte {} lie beyond the end of the file ({} bytes)",
          path_.string(), bytes.value(), offset.value(), size_.value());
  std::string text(bytes.index(), '\0');
  read(text.data(), offset, bytes);
  return text;
}

std::string format_hint(const InputFile& file) {
  const std::string head = file.read(0, std::min(file.size(), Size(512)));
  if (head.empty()) return ": it is empty; an interrupted download?";
  if (head.starts_with("version https://git-lfs")) return ": it is a git-lfs pointer; run git lfs pull";
  if (head.starts_with("<!DOCTYPE") || head.starts_with("<html")) return ": it is a web page; download it again";
  if (std::all_of(head.begin(), head.end(), [](char c) { return c == '\0'; })) {
    return ": it starts with zeros; an interrupted download?";
  }
  return "";
}

}  // namespace ptq
