// Hostile checkpoints: the generated collection of $PTQ_GOLDEN/bad-checkpoints, and seeded random damage to good files.
// Every outcome is a model or one Error with exit code 65 or 66; nothing hangs, crashes or allocates what a file merely
// claims.
#include "golden_path.h"
#include "host/files.h"
#include "model/weights.h"
#include "tiny_checkpoint.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PTQ_SANITIZED 1  // shadow memory makes an address space limit meaningless
#endif

namespace ptq {
namespace {

namespace fs = std::filesystem;

// All that a model directory holds, as bytes.
std::string load_all(const fs::path& directory) {
  const ModelFiles files = ModelFiles::open(directory);
  std::string bytes;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    if (info.dtype == DType::other) continue;
    const DType as = is_float(info.dtype) ? DType::f32 : info.dtype;
    bytes += raw_bytes(files.checkpoint().read(name, as));
  }
  return bytes;
}

[[maybe_unused]] std::uintmax_t size_of_files(const fs::path& directory) {
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

// Loads in a child process that may not map more than the files' size plus 64 MiB, and returns its exit code: that of
// the Error, 0 for success, 1 for any other exception, 2 for a message that is not one line.
int load_in_child(const fs::path& directory) {
  const pid_t child = ::fork();
  if (child == 0) {
#ifndef PTQ_SANITIZED
    std::ifstream statm("/proc/self/statm");
    rlim_t pages = 0;
    statm >> pages;
    const rlim_t limit =
        pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + size_of_files(directory) + (rlim_t{64} << 20);
    const rlimit memory{limit, limit};
    ::setrlimit(RLIMIT_AS, &memory);
#endif
    try {
      load_all(directory);
      ::_exit(0);
    } catch (const Error& e) {
      const std::string message = e.what();
      ::_exit(message.find('\n') != std::string::npos || message.size() > 1000 ? 2 : static_cast<int>(e.code()));
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(BadCheckpoints, HaveTheirExpectedOutcome) {
  PTQ_NEED(script, "PTQ_GOLDEN", "bad-checkpoints/make_bad_checkpoints.py");
  const TemporaryDirectory dir;
  const std::string command = "python3 '" + script.string() + "' '" + dir.path().string() + "' > /dev/null";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "python3 cannot run " << script;
  const nlohmann::json manifest = read_json(dir / "manifest.json", "manifest");
  const std::string plain = load_all(dir / "ok-plain");
  int loaded = 0;
  for (const auto& entry : manifest) {
    const auto name = entry.at("name").get<std::string>();
    SCOPED_TRACE(name + ": " + entry.at("reason").get<std::string>());
    // The token ids of the "ids" cases are for the forward pass; their checkpoints are good.
    const bool good = entry.at("expect") == "load" || entry.at("kind") == "ids";
    const auto start = std::chrono::steady_clock::now();
    const int code = load_in_child(dir / name);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 10.0);
    if (!good) {
      EXPECT_TRUE(code == 65 || code == 66) << "exit code " << code;
      continue;
    }
    EXPECT_EQ(code, 0);
    ++loaded;
    const bool extra = name.starts_with("tensor-");  // these hold more tensors than ok-plain
    if (!extra && entry.value("same_logits_as_ok_plain", false)) {
      EXPECT_TRUE(load_all(dir / name) == plain) << "other weights than ok-plain";
    }
  }
  EXPECT_GE(loaded, 32);
  for (const auto& entry : fs::recursive_directory_iterator(dir.path())) {
    EXPECT_NE(entry.path().filename(), "owned.txt") << "code was executed";
  }
}

// --- files that want to become large in memory ---

TEST(BoundedMemory, ParsedFilesStaySmall) {
  const TemporaryDirectory dir;
  put_tiny(dir.path(), tiny_config(), tiny_tensors());
  ASSERT_EQ(load_in_child(dir.path()), 0);

  const std::string good_config = get(dir / "config.json"), good_weights = get(dir / "model.safetensors");
  const auto repeated = [](std::size_t n, const auto& piece) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += (i == 0 ? "" : ",") + piece(i);
    return out;
  };
  // Small values and objects are many times larger in memory than in the file.
  for (const std::string value : {"1", "[]", "{}", "{\"\":0}"}) {
    const std::string list = repeated(1'000'000 / (value.size() + 1), [&](std::size_t) { return value; });
    put(dir / "config.json", "{\"model_type\":\"llama\",\"x\":[" + list + "]}");
    EXPECT_EQ(load_in_child(dir.path()), 65) << value;
  }
  put(dir / "config.json", good_config);

  const auto header = [&](const std::string& json) {
    put(dir / "model.safetensors", bytes_of(static_cast<std::uint64_t>(json.size())) + json);
    EXPECT_EQ(load_in_child(dir.path()), 65);
  };
  const std::string long_name(240, 'n');
  for (const std::size_t count : {65'536u, 1'000'000u}) {
    header("{" +
           repeated(count,
                    [&](std::size_t i) {
                      return "\"" + (count < 100'000 ? long_name : "") + std::to_string(i) +
                             "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
                    }) +
           "}");
  }
  header("{\"w\":{\"shape\":[" + repeated(20'000'000, [](std::size_t) { return std::string("1"); }) + "]}}");
  header("{\"__metadata__\":{" +
         repeated(2'000'000, [](std::size_t i) { return "\"" + std::to_string(i) + "\":\"\""; }) + "}}");

  fs::remove(dir / "model.safetensors");
  const auto index = [&](const auto& piece) {
    put(dir / "model.safetensors.index.json", "{\"weight_map\":{" + repeated(80'000, piece) + "}}");
    EXPECT_NE(load_in_child(dir.path()), 0);
    EXPECT_NE(load_in_child(dir.path()), 1);
  };
  index([](std::size_t i) { return "\"" + std::to_string(i) + "\":\"a\""; });
  fs::remove(dir / "model.safetensors.index.json");

  const auto pickle = [&](const std::string& program) {
    put(dir / "pytorch_model.bin", zip_of({{"m/data.pkl", "\x80\x02" + program + "."}}));
    EXPECT_EQ(load_in_child(dir.path()), 65);
  };
  const auto times = [](std::size_t n, const std::string& piece) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += piece;
    return out;
  };
  for (const char* opcode : {"N", "}", "]", ")", "X\0\0\0"}) pickle(times(8'000'000, opcode));
  std::string memo = "N";
  for (std::uint32_t i = 0; i < 3'000'000; ++i) memo += "r" + bytes_of(i);
  pickle(memo);
  const std::string storage = "(" + pickle_text("storage") + "ctorch\nFloatStorage\n" +
                              pickle_text(std::string(250, 'k')) + pickle_text("cpu") + "K\x01t" + "q\x01";
  pickle(storage + times(3'000'000, "h\x01Q"));
  pickle("}q\x01" + times(500'000, "(X\x01" + std::string(3, '\0') + "aNu") + "h\x01");
}

// --- random damage ---

constexpr int rounds = 2000;

class Damage {
 public:
  explicit Damage(unsigned seed) : random_(seed) {}

  // A few bytes changed, most of them in [0, hot), or a truncation, or a piece repeated.
  std::string apply(std::string bytes, std::size_t hot) {
    switch (below(8)) {
      case 0:
        bytes.resize(below(bytes.size()));
        return bytes;
      case 1: {
        const std::size_t at = below(bytes.size());
        return bytes.insert(at, bytes.substr(at, below(64)));
      }
      default:
        break;
    }
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      const std::size_t at = below(10) == 0 ? below(bytes.size()) : below(std::min(hot, bytes.size()));
      constexpr char likely[] = "\x00\x01\x7f\x80\xff{}[]\",:-019e.(tRQ";
      bytes[at] = below(2) == 0 ? likely[below(sizeof likely)] : static_cast<char>(below(256));
    }
    return bytes;
  }

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }

  std::mt19937 random_;
};

// Success or ptq::Error with a code for input; anything else escapes and fails the test.
bool loads(const fs::path& directory) {
  try {
    load_all(directory);
    return true;
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Exit::data || e.code() == Exit::missing) << static_cast<int>(e.code()) << " " << e.what();
    EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos) << e.what();
    return false;
  }
}

void expect_robust(const std::string& file, const std::string& good, std::size_t hot, unsigned seed) {
  const TemporaryDirectory dir;
  put_tiny(dir.path(), tiny_config(), tiny_tensors());
  if (file.ends_with(".bin")) fs::remove(dir / "model.safetensors");
  Damage damage(seed);
  int failures = 0;

  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    put(dir / file, damage.apply(good, hot));
    failures += loads(dir.path()) ? 0 : 1;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(failures, rounds / 4) << "the damage hits too little";
}

TEST(RandomDamage, Safetensors) {
  const TemporaryDirectory dir;
  put_tiny(dir.path(), tiny_config(), tiny_tensors());
  const std::string good = get(dir / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  expect_robust("model.safetensors", good, 8 + header, 1);
}

TEST(RandomDamage, TorchBinPickle) {
  const std::string good = torch_bin(tiny_tensors());
  expect_robust("pytorch_model.bin", good, good.find("archive/data/0"), 2);
}

// The zip directory lies at the end of the file.
TEST(RandomDamage, TorchBinDirectory) {
  const TemporaryDirectory dir;
  put_tiny(dir.path(), tiny_config(), tiny_tensors());
  fs::remove(dir / "model.safetensors");
  const std::string good = torch_bin(tiny_tensors());
  const std::size_t directory = good.find("PK\x01\x02");
  ASSERT_NE(directory, std::string::npos);
  Damage damage(3);
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    put(dir / "pytorch_model.bin", good.substr(0, directory) + damage.apply(good.substr(directory), good.size()));
    loads(dir.path());
    if (HasFailure()) return;
  }
}

TEST(RandomDamage, Config) {
  const std::string good = tiny_config().dump();
  expect_robust("config.json", good, good.size(), 4);
}

}  // namespace
}  // namespace ptq
