// The store: results that are whole or not there, whatever happens to files, disks and other processes.
#include "eval/cell.h"
#include "eval/input_digests.h"
#include "eval/store.h"
#include "host/files.h"
#include "host/output_file.h"
#include "temporary.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <random>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

CellResult evaluation(int number = 1) {
  CellResult r;
  r.identity = {{"kind", "evaluation"}, {"numerics", 1}, {"number", number}};
  r.metrics = {{"ppl", {{"value", 5.25}, {"stderr", nullptr}, {"window_nll", {1.5, 0.1, 1e-300}}}}};
  r.health = {{"summary", {{"linears", 2}}}};
  r.run = {{"seconds", {{"total", 1.5}}}, {"model", "caf\u00e9 \"x\"\n"}};
  return r;
}

std::string sealed(const std::string& text) { return text + "\"sha256\":\"" + sha256_hex(text) + "\"}\n"; }

class StoreTest : public testing::Test {
 protected:
  Store open(StoreAccess access = StoreAccess::write) {
    return {tmp / "store", access, [this](const std::string& note) { notes.push_back(note); }};
  }
  std::size_t files_in(const fs::path& directory) {
    std::size_t count = 0;
    if (fs::exists(directory))
      for (const auto& entry : fs::recursive_directory_iterator(directory)) count += entry.is_regular_file();
    return count;
  }

  TemporaryDirectory tmp;
  std::vector<std::string> notes;
};

TEST(ResultFile, DecodedIsWhatWasEncoded) {
  const CellResult r = evaluation();
  const std::string text = encode_result(r), id = cell_id(r.identity);
  const Json json = decode_result(text, id, "file");
  EXPECT_EQ(json.at("identity"), r.identity);
  EXPECT_EQ(json.at("metrics"), r.metrics);
  EXPECT_EQ(json.at("health"), r.health);
  EXPECT_EQ(json.at("run"), r.run);
  EXPECT_FALSE(json.contains("study"));
  EXPECT_FALSE(json.contains("calibration"));
  // One member a line; the outcome is what stands before its line and does not know when and where.
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 7);
  EXPECT_EQ(json.at("outcome_sha256"), sha256_hex(text.substr(0, text.find("\"outcome_sha256\""))));
  CellResult later = r;
  later.run["finished"] = "tomorrow";
  EXPECT_EQ(decode_result(encode_result(later), id, "file").at("outcome_sha256"), json.at("outcome_sha256"));
  EXPECT_NE(encode_result(later), text);
}

TEST(ResultFile, AnyFlippedByteAndAnyTruncationIsSeen) {
  const CellResult r = evaluation();
  const std::string text = encode_result(r), id = cell_id(r.identity);
  std::mt19937 random(1);
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string damaged = text;
    damaged[at] ^= static_cast<char>(1 << random() % 8);
    expect_error(Exit::data, "origin: ", [&] { decode_result(damaged, id, "origin"); });
    expect_error(Exit::data, "origin: ", [&] { decode_result(text.substr(0, at), id, "origin"); });
  }
  expect_error(Exit::data, "digest", [&] { decode_result(text + "\n", id, "origin"); });
  expect_error(Exit::data, "digest", [&] { decode_result(text + text, id, "origin"); });
}

// Files whose digest is right and whose content is not what a result consists of.
TEST(ResultFile, HostileContentIsRefused) {
  const CellResult r = evaluation();
  const std::string id = cell_id(r.identity), identity = canonical_json(r.identity),
                    head = "{\"id\":\"" + id + "\",\n\"identity\":" + identity + ",\n",
                    run = "\"run\":{\"seconds\":{}},\n";
  EXPECT_NO_THROW(decode_result(sealed(head + "\"metrics\":{},\n" + run), id, "o"));
  std::string deep;
  for (int i = 0; i < 200000; ++i) deep += '[';
  const std::vector<std::string> contents{
      "",
      "{",
      "[",
      "{\"id\":\"" + id + "\",",  //
      head,
      head + "\"metrics\":{},\n",
      head + run,
      head + "\"metrics\":[],\n" + run,
      head + "\"metrics\":{\"ppl\":5},\n" + run,
      head + "\"metrics\":{},\n\"run\":[1],\n",
      head + "\"metrics\":{},\n\"run\":{\"seconds\":7},\n",
      head + "\"study\":{},\n" + run,
      head + "\"metrics\":{},\n\"study\":{},\n" + run,
      head + "\"metrics\":{},\n\"metrics\":{},\n" + run,
      head + "\"metrics\":" + deep + ",\n" + run,
      head + "\"metrics\":{\"a\":{\"b\":" + deep + "}},\n" + run,
      std::string("{\"id\":\"\0", 8) + id + "\",\n",
      "{\"id\":\"" + std::string(64, 'a') + "\",\n\"identity\":" + identity + ",\n\"metrics\":{},\n" + run,
      "{\"id\":\"" + id + "\",\n\"identity\":{\"kind\":\"evaluation\"},\n\"metrics\":{},\n" + run,
      "{\"id\":\"" + id + "\",\n\"identity\":[],\n\"metrics\":{},\n" + run,
      "{\"id\":7,\n\"identity\":" + identity + ",\n\"metrics\":{},\n" + run,
  };
  for (const std::string& content : contents) {
    SCOPED_TRACE(content.substr(0, 200));
    expect_error(Exit::data, "o: ", [&] { decode_result(sealed(content), id, "o"); });
  }
}

TEST_F(StoreTest, FindsWhatWasPublished) {
  const Store store = open();
  const CellResult one = evaluation(1), two = evaluation(2);
  const std::string id = cell_id(one.identity);
  EXPECT_FALSE(store.find(id));
  store.publish(one);
  store.publish(two);
  EXPECT_EQ(store.find(id)->at("metrics"), one.metrics);
  EXPECT_EQ(store.result_path(id), tmp / "store" / id.substr(0, 2) / (id + ".json"));
  EXPECT_EQ(get(store.result_path(id)), encode_result(one));
  EXPECT_EQ(open(StoreAccess::read).find(cell_id(two.identity))->at("identity"), two.identity);
  EXPECT_TRUE(notes.empty());
}

TEST_F(StoreTest, IdsAreNoPaths) {
  const Store store = open();
  for (const std::string id : {"", "../../../etc/passwd", "abc"}) EXPECT_THROW(store.result_path(id), Error);
  EXPECT_THROW(store.result_path(std::string(61, 'a') + "/.."), Error);
  EXPECT_THROW(store.partial_path(std::string(64, 'A')), Error);
  EXPECT_THROW(store.failure(std::string(63, 'a') + "\0"), Error);
}

TEST_F(StoreTest, DamagedResultsAreSetAside) {
  const Store store = open();
  const CellResult r = evaluation();
  const std::string id = cell_id(r.identity), text = encode_result(r);
  std::string flipped = text;
  flipped[text.find("5.25")] = '6';
  const std::vector<std::string> damages{flipped, text.substr(0, text.size() / 2), "", encode_result(evaluation(2))};
  for (std::size_t i = 0; i < damages.size(); ++i) {
    store.publish(r);
    put(store.result_path(id), damages[i]);
    // Who only reads moves nothing.
    EXPECT_FALSE(open(StoreAccess::read).find(id));
    ASSERT_EQ(notes.size(), 2 * i + 1);
    EXPECT_NE(notes.back().find("counts as missing"), std::string::npos) << notes.back();
    EXPECT_EQ(get(store.result_path(id)), damages[i]);
    EXPECT_FALSE(store.find(id));
    ASSERT_EQ(notes.size(), 2 * i + 2);
    EXPECT_NE(notes.back().find("computed again"), std::string::npos) << notes.back();
    EXPECT_NE(notes.back().find(id), std::string::npos) << notes.back();
    EXPECT_EQ(notes.back().find('\n'), std::string::npos) << notes.back();
    EXPECT_FALSE(fs::exists(store.result_path(id)));
    EXPECT_EQ(files_in(tmp / "store/aside"), i + 1);  // all of them are kept
    EXPECT_FALSE(store.find(id));
    EXPECT_EQ(notes.size(), 2 * i + 2);
  }
  EXPECT_EQ(get(tmp / "store/aside" / (id + ".json")), flipped);
  store.publish(r);
  EXPECT_TRUE(store.find(id));
}

TEST_F(StoreTest, AStudyNeedsItsArrays) {
  const Store store = open();
  CellResult r;
  r.identity = {{"kind", "activations"}};
  r.study = {{"arrays", {{"bytes", 5}, {"sha256", "x"}}}};
  r.run = {{"seconds", Json::object()}};
  const std::string id = cell_id(r.identity);
  const auto publish = [&](const std::string& arrays) {
    Store::make_parent(store.arrays_path(id));
    write_file(store.arrays_path(id), arrays);
    store.publish(r);
  };
  publish("12345");
  EXPECT_TRUE(store.find(id));
  publish("1234");
  EXPECT_FALSE(store.find(id));
  publish("12345");
  fs::remove(store.arrays_path(id));
  EXPECT_FALSE(store.find(id));
  for (const Json& arrays : {Json(3), Json(nullptr), Json{{"bytes", -5}}, Json{{"bytes", "5"}}, Json{{"bytes", 5.5}}}) {
    r.study = {{"arrays", arrays}};
    publish("12345");
    EXPECT_FALSE(store.find(id)) << arrays;
  }
}

TEST_F(StoreTest, FailuresAreRememberedUntilForgotten) {
  const Store store = open();
  const CellResult r = evaluation();
  const std::string id = cell_id(r.identity);
  EXPECT_FALSE(store.failure(id));
  store.record_failure(r.identity, {76, "layer 3: NaN"});
  EXPECT_EQ(store.failure(id)->exit, 76);
  EXPECT_EQ(store.failure(id)->reason, "layer 3: NaN");
  EXPECT_FALSE(store.find(id));
  store.publish(r);
  EXPECT_FALSE(store.failure(id));

  const fs::path file = tmp / "store/failed" / id.substr(0, 2) / (id + ".json");
  for (const std::string& damaged :
       {std::string(), std::string("[]"), std::string("{"), std::string("{\"identity\":{}}"),
        "{\"identity\":" + canonical_json(r.identity) + "}",
        "{\"identity\":" + canonical_json(r.identity) + ",\"exit\":\"x\",\"reason\":1}"}) {
    put(file, damaged);
    EXPECT_FALSE(store.failure(id)) << damaged;
    EXPECT_FALSE(fs::exists(file));
  }
}

TEST_F(StoreTest, PartialLayersGoWithTheirCell) {
  const Store store = open();
  const CellResult r = evaluation();
  const std::string id = cell_id(r.identity);
  const auto make = [&] {
    fs::create_directories(store.partial_path(id));
    put(store.partial_path(id) / "state.json", "x");
  };
  make();
  store.publish(r);
  EXPECT_FALSE(fs::exists(store.partial_path(id)));
  make();  // the process died between publishing and removing
  EXPECT_TRUE(open(StoreAccess::read).find(id));
  EXPECT_TRUE(fs::exists(store.partial_path(id)));
  EXPECT_TRUE(store.find(id));
  EXPECT_FALSE(fs::exists(store.partial_path(id)));
  make();
  store.record_failure(r.identity, {76, "x"});
  EXPECT_FALSE(fs::exists(store.partial_path(id)));
}

TEST_F(StoreTest, OnlyAStoreIsUsedAsOne) {
  const auto write_at = [](const fs::path& path) { return Store(path, StoreAccess::write, [](const std::string&) {}); };
  expect_error(Exit::missing, "no store", [&] { open(StoreAccess::read); });
  EXPECT_FALSE(fs::exists(tmp / "store"));
  fs::create_directories(tmp / "home");
  put(tmp / "home/thesis.tex", "x");
  expect_error(Exit::data, "not a store", [&] { write_at(tmp / "home"); });
  EXPECT_EQ(files_in(tmp / "home"), 1u);
  expect_error(Exit::data, "not a store", [&] { write_at(tmp / "home/thesis.tex"); });
  for (const std::string marker : {"", "[]", "7", "{\"format\":\"ptq store 2\"}", "{}"}) {
    put(tmp / "home/store.json", marker);
    expect_error(Exit::data, "store.json", [&] { write_at(tmp / "home"); });
  }
  expect_error(Exit::create, "", [&] { write_at(tmp / "home/thesis.tex/store"); });
  write_at(tmp / "a/b/c");
  EXPECT_TRUE(fs::exists(tmp / "a/b/c/store.json"));
  EXPECT_EQ(files_in(tmp / "a"), 1u);
  // Made by a process that died before it was a store.
  fs::create_directories(tmp / "begun");
  put(tmp / "begun/.ptq-elsewhere.1-99-0.tmp", "{\"for");
  write_at(tmp / "begun");
  EXPECT_TRUE(fs::exists(tmp / "begun/store.json"));
}

// Processes that start at the same time make one store, all of them successfully.
TEST_F(StoreTest, IsMadeByManyAtOnce) {
  for (int round = 0; round < 30; ++round) {
    const fs::path path = tmp / fmt::format("deep{}/store", round);
    std::array<pid_t, 6> children{};
    for (pid_t& child : children) {
      child = ::fork();
      if (child != 0) continue;
      try {
        const Store store(path, StoreAccess::write, [](const std::string&) {});
        store.publish(evaluation());
        ::_exit(store.find(cell_id(evaluation().identity)) ? 0 : 1);
      } catch (const Error& e) {
        ::_exit(static_cast<int>(e.code()));
      }
    }
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
    }
    EXPECT_EQ(files_in(path), 2u);
  }
}

// A full disk, as far as one process can make one: nothing may grow beyond a few bytes.
TEST_F(StoreTest, AFullDiskLeavesTheOldResult) {
  const Store store = open();
  CellResult r = evaluation();
  store.publish(r);
  const std::string id = cell_id(r.identity), before = get(store.result_path(id));
  r.run["seconds"]["total"] = 2.5;
  struct rlimit old {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit tight { 100, old.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  std::string result, failure, start;
  const auto code_of = [](const auto& step) {
    try {
      step();
      return Exit::ok;
    } catch (const Error& e) {
      return e.code();
    }
  };
  const Exit publishing = code_of([&] { store.publish(r); }),
             recording = code_of([&] {
               store.record_failure(r.identity, {76, std::string(200, 'x')});
             }),
             starting = code_of([&] { open(); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(publishing, Exit::io);
  EXPECT_EQ(recording, Exit::io);
  EXPECT_EQ(starting, Exit::io);
  EXPECT_EQ(get(store.result_path(id)), before);
  EXPECT_FALSE(store.failure(id));
  EXPECT_EQ(files_in(tmp / "store"), 2u);  // nothing half-written
  store.publish(r);
  EXPECT_NE(get(store.result_path(id)), before);
}

TEST_F(StoreTest, LeftoversOfDeadProcessesGo) {
  const Store store = open();
  fs::create_directories(tmp / "store/ab");
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(dead, nullptr, 0), dead);
  // The name of this process's files, with other numbers in it.
  std::string own;
  {
    const OutputFile file(tmp / "store/ab/x");
    for (const auto& entry : fs::directory_iterator(tmp / "store/ab")) own = entry.path().filename();
  }
  const std::string pid = fmt::format("-{}-", ::getpid());
  ASSERT_NE(own.find(pid), std::string::npos) << own;
  const std::string host = own.substr(0, own.rfind(pid));  // ".ptq-HOST.NS"
  const auto age = [](const fs::path& file, int hours) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  const auto leftover = [&](const std::string& name, int hours) {
    put(tmp / "store/ab" / name, "half");
    age(tmp / "store/ab" / name, hours);
    return tmp / "store/ab" / name;
  };
  const fs::path of_dead = leftover(fmt::format("{}-{}-7.tmp", host, dead), 0),
                 of_living = leftover(fmt::format("{}-{}-7.tmp", host, ::getpid()), 0),
                 elsewhere = leftover(".ptq-other.1-1-0.tmp", 0), elsewhere_old = leftover(".ptq-other.1-1-1.tmp", 30),
                 // A host whose name begins with this one's and goes on with "-PID".
      similar = leftover(fmt::format("{}-{}-1-0.tmp", host, dead), 0),
                 unnumbered = leftover(fmt::format("{}-{}-x.tmp", host, dead), 0),
                 similar_name = leftover(fmt::format("{}-{}-7.tmp.json", host, dead), 30),
                 result = leftover("result.json", 3000);
  fs::create_directories(tmp / "store/ab" / fmt::format("{}-{}-8.tmp", host, dead));
  fs::create_symlink(result, tmp / "store/ab" / fmt::format("{}-{}-9.tmp", host, dead));
  store.remove_leftovers();
  EXPECT_FALSE(fs::exists(of_dead));
  EXPECT_TRUE(fs::exists(of_living));
  EXPECT_TRUE(fs::exists(elsewhere));
  EXPECT_FALSE(fs::exists(elsewhere_old));
  EXPECT_TRUE(fs::exists(similar));
  EXPECT_TRUE(fs::exists(unnumbered));
  EXPECT_TRUE(fs::exists(similar_name));
  EXPECT_TRUE(fs::exists(result));
}

class DigestsTest : public testing::Test {
 protected:
  void SetUp() override { put(source(), "content"); }
  fs::path source() const { return tmp / "data/source"; }
  void remember(const Json& value) const {
    digests.remember(request, tmp / "data", InputDigests::stamps_of({source()}), value);
  }

  TemporaryDirectory tmp;
  bool made = fs::create_directories(tmp / "data");
  InputDigests digests{tmp / "inputs"};
  Json request = {{"what", "text"}};
};

TEST_F(DigestsTest, AreCurrentUntilASourceChanges) {
  EXPECT_FALSE(digests.last(request));
  remember(1);
  EXPECT_EQ(digests.last(request), Json(1));
  EXPECT_EQ(digests.current(request, tmp / "data"), Json(1));
  EXPECT_FALSE(digests.current(request, tmp.path()));
  EXPECT_FALSE(digests.last({{"what", "else"}}));

  put(source(), "longer content");
  EXPECT_FALSE(digests.current(request, tmp / "data"));
  EXPECT_EQ(digests.last(request), Json(1));
  remember(2);
  EXPECT_EQ(digests.current(request, tmp / "data"), Json(2));
  // Other content of the same size under the old time, as a careful copy leaves it.
  const auto time = fs::last_write_time(source());
  put(source(), "LONGER content");
  fs::last_write_time(source(), time);
  EXPECT_FALSE(digests.current(request, tmp / "data"));
  remember(3);
  fs::remove(source());
  EXPECT_FALSE(digests.current(request, tmp / "data"));
  remember(4);  // of a source that is not there
  EXPECT_FALSE(digests.current(request, tmp / "data"));
  EXPECT_EQ(digests.last(request), Json(4));
  // One that changed while it was read.
  put(source(), "begun");
  const Json stamps = InputDigests::stamps_of({source()});
  put(source(), "begun and done");
  digests.remember(request, tmp / "data", stamps, 5);
  EXPECT_FALSE(digests.current(request, tmp / "data"));
}

TEST_F(DigestsTest, AreWrittenOnceAndReadWithCare) {
  remember(1);
  fs::path file;
  for (const auto& entry : fs::recursive_directory_iterator(tmp / "inputs"))
    if (entry.is_regular_file()) file = entry.path();
  struct stat before {
  }, after{};
  ASSERT_EQ(::stat(file.c_str(), &before), 0);
  remember(1);
  ASSERT_EQ(::stat(file.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  const std::string content = get(file);
  for (const std::string damaged : {"", "[]", "{", "7", "{\"request\":{\"what\":\"text\"}}",
                                    "{\"request\":{\"what\":\"text\"},\"root\":7,\"sources\":[],\"value\":1}",
                                    "{\"request\":{\"what\":\"other\"},\"root\":\"/\",\"sources\":[],\"value\":1}"}) {
    put(file, damaged);
    EXPECT_FALSE(digests.last(request)) << damaged;
    EXPECT_FALSE(digests.current(request, tmp / "data")) << damaged;
  }
  for (const std::string sources : {"[7]", "[{}]", "[{\"path\":[]}]", "[[]]"}) {
    Json json = Json::parse(content);
    json["sources"] = Json::parse(sources);
    put(file, json.dump());
    EXPECT_FALSE(digests.current(request, tmp / "data")) << sources;
  }
  remember(1);
  EXPECT_EQ(digests.current(request, tmp / "data"), Json(1));
}

}  // namespace
}  // namespace ptq
