// host/checkpoint.h: the containers, sharded checkpoints, and the safetensors writer.
#include "host/checkpoint.h"

#include "tiny_checkpoint.h"

#include <signal.h>
#include <sys/resource.h>

#include <cmath>

namespace ptq {
namespace {

namespace fs = std::filesystem;

Tensor read(const Checkpoint& file, const std::string& name) { return file.read(name, file.tensors().at(name).dtype); }

void expect_holds(const Checkpoint& file, const std::map<std::string, Tensor>& tensors) {
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    expect_same(read(file, name), tensor);
  }
}

// --- safetensors ---

TEST(Safetensors, RoundTripOfEveryDtypeAndShape) {
  const TemporaryDirectory dir;
  std::map<std::string, Tensor> tensors;
  int n = 0;
  for (const DType t : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i8, DType::u8, DType::i16, DType::i32,
                        DType::i64, DType::boolean}) {
    for (const Shape& shape : {Shape{}, Shape{0, 3}, Shape{5}, Shape{3, 7}, Shape{2, 1, 3}}) {
      Tensor tensor = Tensor::empty(t, shape);
      auto* bytes = static_cast<unsigned char*>(tensor.raw());
      for (std::size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<unsigned char>(i * 37 + 11);
      tensors["tensor " + std::to_string(n++)] = tensor;
    }
  }
  write_safetensors(dir / "a.safetensors", tensors, {{"format", "pt"}, {"note", "\"quoted\"\n"}});
  expect_holds(*open_safetensors(dir / "a.safetensors"), tensors);
  write_safetensors(dir / "empty.safetensors", {}, {});
  EXPECT_TRUE(open_safetensors(dir / "empty.safetensors")->tensors().empty());
}

TEST(Safetensors, WriterLaysTensorsOutWithoutHoles) {
  const TemporaryDirectory dir;
  write_safetensors(dir / "a.safetensors", {{"b", Tensor::zeros(DType::f16, {3})},
                                            {"a", Tensor::zeros(DType::u8, {5})},
                                            {"d", Tensor::zeros(DType::f32, {2, 2})},
                                            {"c", Tensor::zeros(DType::f32, {1})}});
  const std::string file = get(dir / "a.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  const auto header = nlohmann::json::parse(file.substr(8, length));
  EXPECT_EQ(header["__metadata__"], (nlohmann::json{{"format", "pt"}}));
  const auto offsets = [&](const char* name) { return header[name]["data_offsets"].get<std::vector<int>>(); };
  // Descending item size, then by name.
  EXPECT_EQ(offsets("c"), (std::vector{0, 4}));
  EXPECT_EQ(offsets("d"), (std::vector{4, 20}));
  EXPECT_EQ(offsets("b"), (std::vector{20, 26}));
  EXPECT_EQ(offsets("a"), (std::vector{26, 31}));
  EXPECT_EQ(file.size(), 8 + length + 31);
}

// More than one piece, and a size that no piece divides.
TEST(Safetensors, ConversionsAndRowSlices) {
  const TemporaryDirectory dir;
  const Shape shape{1048583, 3};
  const Tensor f32 = random_tensor(shape, 1);
  const std::map<std::string, Tensor> tensors{{"f32", f32}, {"f16", f32.to(DType::f16)}, {"bf16", f32.to(DType::bf16)}};
  write_safetensors(dir / "a.safetensors", tensors);
  const auto file = open_safetensors(dir / "a.safetensors");
  for (const auto& [name, stored] : tensors) {
    for (const DType as : {DType::f32, DType::f16, DType::bf16}) {
      SCOPED_TRACE(name + " as " + std::string(name_of(as)));
      expect_same(file->read(name, as), stored.to(as));
      expect_same(file->read(name, as, 7, 1048577), stored.slice_rows(7, 1048577).to(as).clone());
      EXPECT_EQ(file->read(name, as, 5, 5).shape(), (Shape{0, 3}));
    }
  }
}

TEST(Safetensors, Float64AndIntegers) {
  const TemporaryDirectory dir;
  write_safetensors(dir / "a.safetensors", {{"d", Tensor::of<double>({1.5, -0.1, 1e300}, {3})},
                                            {"i", Tensor::of<std::int32_t>({1, 2, 3}, {3})}});
  const auto file = open_safetensors(dir / "a.safetensors");
  const Tensor d = file->read("d", DType::f32);
  EXPECT_EQ(d.data<float>()[0], 1.5f);
  EXPECT_EQ(d.data<float>()[1], -0.1f);
  EXPECT_TRUE(std::isinf(d.data<float>()[2]));
  expect_error(Exit::data, "stored as int32, float32 is needed", [&] { file->read("i", DType::f32); });
  expect_error(Exit::data, "there is no tensor", [&] { file->read("x", DType::f32); });
}

// The file is cut after it was opened.
TEST(Safetensors, ReportsAShrinkingFile) {
  const TemporaryDirectory dir;
  write_safetensors(dir / "a.safetensors", {{"w", random_tensor({1000}, 1)}});
  const auto file = open_safetensors(dir / "a.safetensors");
  fs::resize_file(dir / "a.safetensors", 2000);
  expect_error(Exit::data, "ends at byte 2000", [&] { file->read("w", DType::f32); });
}

std::string with_header(const std::string& json, const std::string& data = "") {
  return bytes_of(static_cast<std::uint64_t>(json.size())) + json + data;
}

TEST(Safetensors, RefusesMalformedHeaders) {
  const TemporaryDirectory dir;
  const auto bad = [&](const std::string& content, std::string_view part) {
    put(dir / "a.safetensors", content);
    expect_error(Exit::data, part, [&] { open_safetensors(dir / "a.safetensors"); });
    expect_error(Exit::data, "a.safetensors", [&] { open_safetensors(dir / "a.safetensors"); });
  };
  const auto one = [](const std::string& entry) { return "{\"w\":" + entry + "}"; };
  const std::string good = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  put(dir / "a.safetensors", with_header(one(good), "1234"));
  EXPECT_EQ(open_safetensors(dir / "a.safetensors")->tensors().size(), 1u);

  bad("1234567", "too few");
  bad(bytes_of(~std::uint64_t{0}) + "{}", "does not fit");
  bad(bytes_of(std::uint64_t{3}) + "{}", "does not fit");
  bad("version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer");
  bad(with_header("[]"), "does not begin");
  bad(with_header("\xef\xbb\xbf{}"), "does not begin");
  bad(with_header("{}{}"), "malformed header");
  bad(with_header(std::string("{}\0x", 4)), "NUL");
  bad(with_header("{\"w\":1}"), "not an object");
  bad(with_header("{\"__metadata__\":{\"a\":1}}"), "strings to strings");
  bad(with_header("{\"__metadata__\":[]}"), "strings to strings");
  bad(with_header("{\"__metadata__\":{},\"__metadata__\":{}}"), "twice");
  bad(with_header(one(good) + " ", "123"), "truncated");
  bad(with_header(one(good), "12345"), "5 bytes of data");
  const std::string next = R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
  bad(with_header("{\"w\":" + good + ",\"w\":" + next + "}", "12345678"), "twice");
  bad(with_header("{\"w\":" + good + ",\"v\":" + good + "}", "12345678"), "a hole or an overlap");
  bad(with_header("{\"w\":" + good + ",\"v\":" + good + "}", "1234"), "where 0 are left");
  bad(with_header(one(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "1234"), "twice");
  bad(with_header(one(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})"), "1234"), "unknown dtype");
  bad(with_header(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), "1234"), "takes 8 bytes");
  bad(with_header(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})")), "overflow");
  bad(with_header(one(R"({"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]})")), "63 bits");
  bad(with_header("{\"" + std::string(600, 'n') + "\":" + good + "}", "1234"), "its name has 600 bytes");
  bad(with_header("{\"" + std::string(20 << 20, 'n') + "\":" + good + "}", "1234"), "a string of more than");
  bad(with_header("{\"\\\"" + std::string(20 << 20, '\\') + "\":1}"), "a string of more than");
  bad(with_header(one(std::string(20, '[') + std::string(20, ']'))), "nested deeper");
}

// --- writer ---

TEST(SafetensorsWriter, FullDiskKeepsTheOldFile) {
  ::signal(SIGXFSZ, SIG_IGN);
  const TemporaryDirectory dir;
  write_safetensors(dir / "a.safetensors", {{"w", random_tensor({8}, 1)}});
  const std::string before = get(dir / "a.safetensors");
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{100'000, limit.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  expect_error(Exit::io, "a.safetensors", [&] {
    write_safetensors(dir / "a.safetensors", {{"w", random_tensor({100'000}, 1)}});
  });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_EQ(get(dir / "a.safetensors"), before);
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(SafetensorsWriter, PublishesOnlyWhatIsComplete) {
  const TemporaryDirectory dir;
  const TensorInfo a{"a", DType::f32, {2}, ""}, b{"b", DType::f32, {2}, ""};
  {
    SafetensorsWriter writer(dir / "x", {a, b});
    writer.write("b", random_tensor({2}, 1));
    expect_error(Exit::internal, "tensor a", [&] { writer.finish(); });
    expect_error(Exit::internal, "not declared", [&] { writer.write("c", random_tensor({2}, 1)); });
    expect_error(Exit::internal, "declared as", [&] { writer.write("a", random_tensor({3}, 1)); });
  }
  EXPECT_EQ(dir.entries(), 0u);
  expect_error(Exit::create, "no/x", [&] { SafetensorsWriter(dir / "no/x", {a}); });
  SafetensorsWriter writer(dir / "x", {a, b});
  writer.write("b", random_tensor({2}, 1));
  writer.write("a", random_tensor({2}, 2));
  writer.finish();
  EXPECT_EQ(dir.entries(), 1u);
  expect_holds(*open_safetensors(dir / "x"), {{"a", random_tensor({2}, 2)}, {"b", random_tensor({2}, 1)}});
}

// --- torch .bin ---

TEST(TorchBin, ReadsWhatTorchWrites) {
  const TemporaryDirectory dir;
  const auto tensors = tiny_tensors();
  put(dir / "pytorch_model.bin", torch_bin(tensors));
  expect_holds(*open_checkpoint(dir.path()), tensors);
}

// One storage of 6 rows of 4: tied views, a row slice with an offset, strides that no row-major tensor has.
std::string shared_storage(const PickledView& view, bool wide = false, bool streamed = false) {
  const Tensor storage = random_tensor({6, 4}, 3);
  return zip_of({{"m/data.pkl", pickle_dict({{"w", pickle_tensor(view)}})},
                 {"m/byteorder", "little"},
                 {"m/data/0", raw_bytes(storage)}},
                wide, streamed);
}

TEST(TorchBin, ViewsOfStorages) {
  const TemporaryDirectory dir;
  const Tensor storage = random_tensor({6, 4}, 3);
  const auto open = [&](const std::string& content) {
    put(dir / "pytorch_model.bin", content);
    return open_checkpoint(dir.path());
  };
  const PickledView rows{.key = "0", .numel = 24, .offset = 8, .shape = {3, 4}, .stride = {4, 1}};
  for (const bool wide : {false, true}) {
    for (const bool streamed : {false, true}) {
      expect_same(read(*open(shared_storage(rows, wide, streamed)), "w"), storage.slice_rows(2, 5));
    }
  }
  const auto file = open(shared_storage(rows));
  expect_same(file->read("w", DType::bf16, 1, 3), storage.slice_rows(3, 5).to(DType::bf16));
  // The stride of a dimension of one element does not matter; neither does that of an empty tensor.
  EXPECT_EQ(read(*open(shared_storage({.key = "0", .numel = 24, .shape = {1, 4}, .stride = {99, 1}})), "w").numel(), 4);
  EXPECT_EQ(read(*open(shared_storage({.key = "0", .numel = 24, .shape = {0, 4}, .stride = {4, 1}})), "w").numel(), 0);

  const auto bad = [&](const PickledView& view, std::string_view part) {
    expect_error(Exit::data, part, [&] { open(shared_storage(view)); });
  };
  bad({.key = "0", .numel = 24, .shape = {4, 6}, .stride = {1, 4}}, "not contiguous");
  bad({.key = "0", .numel = 24, .offset = 13, .shape = {3, 4}, .stride = {4, 1}}, "leave its storage");
  bad({.key = "0", .numel = 25, .shape = {3, 4}, .stride = {4, 1}}, "claims 25 elements");
  bad({.key = "0", .numel = 24, .offset = INT64_MAX, .shape = {3, 4}, .stride = {4, 1}}, "tensor w");
  bad({.key = "0", .numel = 24, .shape = {INT64_MAX, INT64_MAX}, .stride = {INT64_MAX, 1}}, "overflow");
  bad({.key = "0", .numel = 24, .shape = {-3, 4}, .stride = {4, 1}}, "negative");
  bad({.key = "1", .numel = 24, .shape = {3, 4}, .stride = {4, 1}}, "no storage 1");
  bad({.key = "../data/0", .numel = 24, .shape = {3, 4}, .stride = {4, 1}}, "no storage");
  bad({.storage_class = "QInt8Storage", .key = "0", .numel = 24, .shape = {4}, .stride = {1}}, "QInt8Storage");
}

TEST(TorchBin, ParametersAndSubclassesAreTensors) {
  const TemporaryDirectory dir;
  const std::string tensor = pickle_tensor({.key = "0", .numel = 24, .shape = {6, 4}, .stride = {4, 1}});
  const std::string dict = "ccollections\nOrderedDict\n)R";
  const auto holds = [&](const std::string& value) {
    put(dir / "pytorch_model.bin",
        zip_of({{"m/data.pkl", pickle_dict({{"w", value}})}, {"m/data/0", raw_bytes(random_tensor({6, 4}, 3))}}));
    expect_same(read(*open_checkpoint(dir.path()), "w"), random_tensor({6, 4}, 3));
  };
  holds("ctorch._utils\n_rebuild_parameter\n(" + tensor + "\x88" + dict + "tR");
  // _rebuild_from_type_v2(function, class, arguments of function, state)
  holds("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_parameter\nctorch.nn.parameter\nParameter\n(" +
        tensor + "\x88" + dict + "t}tR");
}

// --- which file, shards ---

void put_shards(const fs::path& dir, const std::string& index) {
  auto first = tiny_tensors(), second = first;
  for (auto it = first.begin(); it != first.end();) it = it->first < "model.layers.1" ? std::next(it) : first.erase(it);
  for (const auto& [name, tensor] : first) second.erase(name);
  write_safetensors(dir / "s1.safetensors", first);
  write_safetensors(dir / "s2.safetensors", second);
  if (!index.empty()) {
    put(dir / "model.safetensors.index.json", index);
    return;
  }
  nlohmann::json map;
  for (const auto& [name, tensor] : tiny_tensors())
    map[name] = first.contains(name) ? "s1.safetensors" : "s2.safetensors";
  put(dir / "model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
}

TEST(Sharded, ReadsAllShards) {
  const TemporaryDirectory dir;
  put_shards(dir.path(), "");
  const auto file = open_checkpoint(dir.path());
  expect_holds(*file, tiny_tensors());
  EXPECT_EQ(file->files().size(), 2u);
}

TEST(Sharded, RefusesHostileIndexes) {
  const TemporaryDirectory dir;
  const auto bad = [&](const std::string& index, std::string_view part) {
    put_shards(dir.path(), index);
    expect_error(Exit::data, part, [&] { open_checkpoint(dir.path()); });
  };
  const auto map = [](const std::string& file) { return R"({"weight_map":{"w":)" + file + "}}"; };
  bad("{}", "no weight_map");
  bad(R"({"weight_map":[]})", "no weight_map");
  bad(R"({"weight_map":{}})", "empty");
  bad(map("1"), "not a string");
  for (const char* name :
       {R"("../s1.safetensors")", R"("/etc/passwd")", R"("a\\b")", R"("a\u0000b")", R"("")", R"(".")", R"("..")"}) {
    bad(map(name), "not a plain file name");
  }
  bad(map("\"s1.safetensors\""), "tensor w is not in its shard");
  expect_error(Exit::missing, "s3.safetensors", [&] {
    put_shards(dir.path(), map("\"s3.safetensors\""));
    open_checkpoint(dir.path());
  });
}

TEST(Sharded, SymbolicLinksStayInsideOrInTheHubCache) {
  const TemporaryDirectory root;
  // models--x/snapshots/REVISION/FILE -> ../../blobs/HASH, as the Hugging Face cache has it.
  const fs::path model = root / "models--x", snapshot = model / "snapshots/abc";
  fs::create_directories(snapshot);
  fs::create_directories(model / "blobs");
  put_shards(snapshot, "");
  fs::rename(snapshot / "s1.safetensors", model / "blobs/123");
  fs::create_symlink("../../blobs/123", snapshot / "s1.safetensors");
  expect_holds(*open_checkpoint(snapshot), tiny_tensors());
  // Anything else outside is refused.
  fs::rename(model / "blobs/123", root / "123");
  fs::remove(snapshot / "s1.safetensors");
  fs::create_symlink("../../../123", snapshot / "s1.safetensors");
  expect_error(Exit::data, "leaves the directory", [&] { open_checkpoint(snapshot); });
  fs::rename(root / "123", snapshot / "real");
  fs::remove(snapshot / "s1.safetensors");
  fs::create_symlink("real", snapshot / "s1.safetensors");
  expect_holds(*open_checkpoint(snapshot), tiny_tensors());
  fs::remove(snapshot / "real");
  expect_error(Exit::missing, "dangling", [&] { open_checkpoint(snapshot); });
}

TEST(OpenCheckpoint, LooksForFilesInOrder) {
  const TemporaryDirectory dir;
  expect_error(Exit::missing, "no weights", [&] { open_checkpoint(dir.path()); });
  const auto two = [](float x) { return std::map<std::string, Tensor>{{"w", Tensor::of<float>({x}, {1})}}; };
  const auto found = [&] { return *open_checkpoint(dir.path())->read("w", DType::f32).data<float>(); };
  put(dir / "other.bin", torch_bin(two(4)));
  put(dir / "pytorch_model.bin.index.json", R"({"weight_map":{"w":"other.bin"}})");
  EXPECT_EQ(found(), 4.0f);
  put(dir / "pytorch_model.bin", torch_bin(two(3)));
  EXPECT_EQ(found(), 3.0f);
  write_safetensors(dir / "other.safetensors", two(2));
  put(dir / "model.safetensors.index.json", R"({"weight_map":{"w":"other.safetensors"}})");
  EXPECT_EQ(found(), 2.0f);
  write_safetensors(dir / "model.safetensors", two(1));
  EXPECT_EQ(found(), 1.0f);
}

}  // namespace
}  // namespace ptq
