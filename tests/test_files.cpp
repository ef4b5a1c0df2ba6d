// host/files.h, host/input_file.h, host/output_file.h: whole-file input, strict JSON, crash-safe output.
#include "host/files.h"

#include "host/output_file.h"
#include "host/printable.h"
#include "temporary.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace ptq {
namespace {

// No file may grow beyond `bytes` while this lives: what a full disk looks like to a writer.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(ReadFile, BytesAndErrors) {
  const TemporaryDirectory dir;
  const std::string content("a\0b\r\n\xff", 6);
  put(dir / "f", content);
  EXPECT_EQ(read_file(dir / "f", "text"), content);
  put(dir / "empty", "");
  EXPECT_EQ(read_file(dir / "empty", "text"), "");
  EXPECT_EQ(read_file(dir / "f", "text", Size(6)), content);
  expect_error(Exit::data, "limit", [&] { read_file(dir / "f", "text", Size(5)); });
  expect_error(Exit::missing, "no/text", [&] { read_file(dir / "no/text", "text"); });
  expect_error(Exit::data, "not a regular file", [&] { read_file(dir.path(), "text"); });
}

TEST(ReadFile, FifoDoesNotHang) {
  const TemporaryDirectory dir;
  ASSERT_EQ(::mkfifo((dir / "config.json").c_str(), 0600), 0);
  expect_error(Exit::data, "not a regular file", [&] { read_file(dir / "config.json", "config"); });
}

TEST(ReadFile, NamedStreamsAreReadToTheirEnd) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "hello", 5), 5);
  ::close(ends[1]);
  const std::string path = "/dev/fd/" + std::to_string(ends[0]);
  EXPECT_EQ(read_file(path, "text"), "hello");
  ::close(ends[0]);
}

TEST(InputFile, ReadsBeyondTheEndAreErrors) {
  const TemporaryDirectory dir;
  put(dir / "f", "0123456789");
  const InputFile file(dir / "f", "file");
  EXPECT_EQ(file.read(3, 4), "3456");
  EXPECT_EQ(file.read(10, 0), "");
  expect_error(Exit::data, "beyond the end", [&] { file.read(3, 8); });
  expect_error(Exit::data, "overflow", [&] { file.read(~std::uint64_t{0}, 2); });
  // The file shrinks after it was opened.
  put(dir / "f", "0123");
  expect_error(Exit::data, "ends at byte 4", [&] { file.read(0, 10); });
}

TEST(Json, StrictInput) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2.5, "x", null, true]})", "f")["a"][1], 2.5);
  const auto bad = [](const std::string& text, std::string_view part) {
    expect_error(Exit::data, part, [&] { (void)parse_json(text, "origin.json").size(); });
    expect_error(Exit::data, "origin.json", [&] { (void)parse_json(text, "origin.json").size(); });
  };
  bad("", "byte 1");
  bad("{", "byte 2");
  bad("{} x", "byte 4");
  bad(R"({"a": 1, "b": {"c": 1, "c": 2}})", "\"c\" occurs twice");
  bad(std::string("{}\0{}", 5), "NUL");
  bad("[1e999]", "byte 6: number overflow");
  bad("[\"\xc3\x28\"]", "UTF-8");
  bad("[\"\xc0\xae\"]", "UTF-8");
  bad(R"(["\ud800"])", "surrogate");
  bad("[016]", "byte");
  bad("// c\n{}", "byte 1");
  bad("[1,]", "byte 4");
  bad("[NaN]", "byte");
  bad(std::string(1'000'000, '['), "nested deeper");
  const std::string open = R"({"a":)";
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += open;
  bad(deep, "nested deeper");
  // The same key in different objects is fine, and so is nesting of reasonable depth.
  EXPECT_NO_THROW((void)parse_json(R"({"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]})", "f").size());
  EXPECT_NO_THROW((void)parse_json(std::string(100, '[') + std::string(100, ']'), "f").size());
}

TEST(WriteFile, ReplacesAndReportsErrors) {
  const TemporaryDirectory dir;
  write_file(dir / "f", "one");
  EXPECT_EQ(get(dir / "f"), "one");
  write_file(dir / "f", "two two");
  EXPECT_EQ(get(dir / "f"), "two two");
  EXPECT_EQ(dir.entries(), 1u);
  expect_error(Exit::create, "no/such", [&] { write_file(dir / "no/such", "x"); });
  expect_error(Exit::create, "not a regular file", [&] { write_file(dir.path(), "x"); });
  expect_error(Exit::create, "not a regular file", [&] { write_file("/dev/null", "x"); });
}

TEST(WriteFile, PermissionsFollowTheUmask) {
  const TemporaryDirectory dir;
  const mode_t before = ::umask(027);
  write_file(dir / "f", "x");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((dir / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
}

TEST(WriteFile, FullDiskKeepsTheOldFile) {
  const TemporaryDirectory dir;
  put(dir / "f", "old");
  {
    const SmallDisk disk(4096);
    expect_error(Exit::io, "write error", [&] { write_file(dir / "f", std::string(10'000, 'x')); });
  }
  EXPECT_EQ(get(dir / "f"), "old");
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(OutputFile, IsInvisibleUntilPublished) {
  const TemporaryDirectory dir;
  put(dir / "f", "old");
  {
    OutputFile file(dir / "f");
    file.write("new", 0);
    EXPECT_EQ(get(dir / "f"), "old");
  }
  EXPECT_EQ(get(dir / "f"), "old");
  EXPECT_EQ(dir.entries(), 1u);
  {
    OutputFile file(dir / "f");
    file.write("lo", 3);
    file.write("hel", 0);
    file.publish();
  }
  EXPECT_EQ(get(dir / "f"), "hello");
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(OutputFile, ReserveFindsAFullDiskEarly) {
  const TemporaryDirectory dir;
  const SmallDisk disk(4096);
  OutputFile file(dir / "f");
  expect_error(Exit::io, "no room for 1000000 bytes", [&] { file.reserve(1'000'000); });
}

// FIPS 180-2 appendix B, and more than one buffer of a file.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const TemporaryDirectory dir;
  const std::string million_a(1'000'000, 'a');
  EXPECT_EQ(sha256_hex(million_a), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  const std::string large(3'000'001, 'b');
  put(dir / "f", large);
  EXPECT_EQ(sha256_file(dir / "f"), sha256_hex(large));
}

TEST(Printable, IsOneShortLine) {
  EXPECT_EQ(printable("model.norm"), "model.norm");
  EXPECT_EQ(printable("a\nb\x1b[31m\xff\\"), "a\\x0ab\\x1b[31m\\xff\\x5c");
  EXPECT_EQ(printable(std::string(1000, 'x'), 10), "xxxxxxxxxx...");
}

}  // namespace
}  // namespace ptq
