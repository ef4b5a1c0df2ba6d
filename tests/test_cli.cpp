// The program as its users meet it: exit codes, one line per error, outputs that appear complete or not at all.
#include "host/checkpoint.h"
#include "host/files.h"
#include "model/weights.h"
#include "program.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

const fs::path golden = fs::path(PTQ_SOURCE_DIR) / "tests" / "golden" / "models";
const fs::path miniature = fs::path(PTQ_SOURCE_DIR) / "reproduce" / "miniature" / "models";

class Cli : public ::testing::Test {
 protected:
  Outcome ptq(const std::string& arguments, const std::string& shell = "true") {
    return run_ptq(tmp.path(), arguments, shell);
  }

  void refuses(int code, const std::string& arguments, const std::vector<std::string>& words = {},
               const std::string& shell = "true") {
    SCOPED_TRACE(arguments);
    expect_failure(ptq(arguments, shell), code, words);
  }

  std::string file(const std::string& name, const std::string& content) {
    write_file(tmp.path() / name, content);
    return (tmp.path() / name).string();
  }

  TemporaryDirectory tmp;
};

TEST_F(Cli, Usage) {
  refuses(2, "");
  refuses(2, "frobnicate");
  refuses(2, "inspect");
  refuses(2, "inspect /nowhere --frobnicate", {"frobnicate"});
  refuses(2, "--dtype fp8 devices", {"fp8"});
  refuses(2, "tokenize /nowhere", {"--text"});
  for (const char* command : {"", "inspect", "tokenize", "logits", "calibration", "quantize", "matrix", "eval",
                              "generate", "activations", "inject-outliers", "verify-export", "devices"}) {
    const Outcome r = ptq(std::string(command) + " --help");
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.out.find(*command ? "Example: ptq " : "Exit codes:"), std::string::npos) << command;
  }
}

TEST_F(Cli, DevicesAndInspect) {
  const Outcome devices = ptq("devices --json");
  EXPECT_EQ(devices.code, 0);
  EXPECT_EQ(nlohmann::json::parse(devices.out).at("devices").at(0).at("name"), "cpu");
  refuses(69, "logits " + (golden / "opt").string() + " --ids " + file("ids", "1 2") + " --device cuda",
          {"--device cpu"});
  const Outcome inspect = ptq("inspect " + (golden / "llama-gqa").string() + " --json");
  EXPECT_EQ(inspect.code, 0) << inspect.err;
  EXPECT_EQ(nlohmann::json::parse(inspect.out).at("kv_heads"), 2);
  refuses(66, "inspect /nowhere/at/all", {"/nowhere/at/all"});
  refuses(66, "inspect org/not-in-the-cache", {"cache"});
  refuses(66, "inspect " + tmp.path().string(), {"config.json"});
}

TEST_F(Cli, Logits) {
  const std::string model = (golden / "opt").string();
  const std::string ids = file("ids", "1 2 3\n4,5\n\n"), out = (tmp.path() / "out.safetensors").string();
  const Outcome top = ptq("logits " + model + " --ids " + ids);
  EXPECT_EQ(top.code, 0) << top.err;
  EXPECT_NE(top.out.find("sequence 1 (2 tokens)"), std::string::npos);
  ASSERT_EQ(ptq("logits " + model + " --ids " + ids + " --out " + out + " --taps").code, 0);
  const auto written = open_safetensors(out);
  EXPECT_EQ(written->tensors().at("logits.0").shape, (Shape{3, 127}));
  EXPECT_EQ(written->tensors().count("act.block1.fc2.1"), 1u);

  refuses(66, "logits " + model + " --ids /nowhere", {"/nowhere"});
  refuses(65, "logits " + model + " --ids " + file("bad", "1 two 3"), {"line 1"});
  refuses(65, "logits " + model + " --ids " + file("empty", "\n"));
  refuses(65, "logits " + model + " --ids " + file("range", "1 127"), {"127"});
  refuses(65, "logits " + model + " --ids " + file("negative", "1 -1"));
  refuses(2, "logits " + model + " --ids " + ids + " --taps", {"--out"});
  refuses(73, "logits " + model + " --ids " + ids + " --out /nowhere/out.safetensors", {"/nowhere"});
}

// What bench/kernel_resources.py reads: program, place of the kernel, name, threads of a block, shared memory.
TEST_F(Cli, LaunchesOfTheExecutorAreListed) {
  const std::string list = (tmp.path() / "launches").string();
  const std::string command = "--device simt logits " + (golden / "opt").string() + " --ids " + file("ids", "1 2 3");
  ASSERT_EQ(ptq(command, "export PTQ_SIMT_LAUNCHES=" + list).code, 0);
  const std::string lines = read_file(list, "launches");
  EXPECT_NE(lines.find("\tattention_f32\t128\t"), std::string::npos) << lines;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\t'), 4 * std::count(lines.begin(), lines.end(), '\n'));
  EXPECT_EQ(lines.rfind(fs::canonical(PTQ_BINARY).string() + "\t", 0), 0u);
}

TEST_F(Cli, FullDiskLeavesTheOldFile) {
  const std::string model = (golden / "opt").string(), ids = file("ids", "1 2 3 4 5 6 7 8"),
                    out = file("out.safetensors", "old");
  refuses(74, "logits " + model + " --ids " + ids + " --out " + out, {"out.safetensors"}, "ulimit -f 1");
  EXPECT_EQ(read_file(out, "old output"), "old");
  for (const auto& entry : fs::directory_iterator(tmp.path()))
    EXPECT_EQ(entry.path().filename().string().find("out.safetensors."), std::string::npos) << entry.path();
}

TEST_F(Cli, QuantizeAndEval) {
  const std::string model = (miniature / "llama3").string(), out = (tmp.path() / "q").string();
  std::string words;
  for (int i = 0; i < 400; ++i) words += "the king gave the book to the child . ";
  const std::string text = file("text.txt", words);

  refuses(2, "quantize " + model + " " + out + " --method gptq", {"--calibration"});
  refuses(2, "quantize " + model + " " + out + " --method rtn --calibration " + text, {"--calibration"});
  refuses(2, "quantize " + model + " " + out + " --method rtn --bits 1", {"--bits"});
  refuses(2, "quantize " + model + " " + out + " --method magic", {"magic"});
  refuses(65,
          "quantize " + model + " " + out + " --method gptq --calibration " + file("short", "one") + " --seqlen 128");
  EXPECT_FALSE(fs::exists(out));

  const std::string gptq =
      "quantize " + model + " " + out + " --method gptq --group 64 --samples 4 --seqlen 64 --calibration " + text;
  const Outcome first = ptq(gptq);
  ASSERT_EQ(first.code, 0) << first.err;
  const auto card = read_json(fs::path(out) / "ptq.json", "card");
  EXPECT_EQ(card.at("parameters").at("method"), "gptq");
  EXPECT_EQ(card.at("parameters").at("true_sequential"), true);
  EXPECT_EQ(card.at("linears").size(), 7u * static_cast<unsigned>(read_config(model).layers));
  refuses(73, gptq, {"--force"});
  EXPECT_EQ(ptq(gptq + " --force").code, 0);
  refuses(74, gptq + " --force", {}, "ulimit -f 500");
  EXPECT_NO_THROW(ModelFiles::open(out));

  const std::string json = (tmp.path() / "r.json").string();
  const Outcome eval = ptq("eval " + out + " --text " + text + " --seqlen 64 --windows 5 --json " + json);
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto result = read_json(json, "result");
  EXPECT_EQ(result.at("metrics").at("ppl").at("windows"), 5);
  EXPECT_EQ(result.at("metrics").at("ppl").at("window_nll").size(), 5u);
  refuses(65, "eval " + model + " --text " + file("tiny", "a") + " --seqlen 64");
  refuses(65, "eval " + model + " --text " + file("nothing", ""));
  refuses(66, "eval " + model + " --metrics piqa --data /nowhere", {"piqa"});
  refuses(2, "eval " + model + " --metrics mmlu", {"mmlu"});
}

TEST_F(Cli, W8A8RunsInt8Activations) {
  const std::string model = (miniature / "opt").string(), out = (tmp.path() / "q").string();
  const std::string json = (tmp.path() / "r.json").string();
  std::string words;
  for (int i = 0; i < 200; ++i) words += "the king gave the book to the child . ";
  ASSERT_EQ(ptq("quantize " + model + " " + out + " --method w8a8").code, 0);
  ASSERT_EQ(ptq("eval " + out + " --text " + file("t", words) + " --seqlen 64 --json " + json).code, 0);
  const auto result = read_json(json, "result");
  EXPECT_EQ(result.at("provenance").at("activations"), "int8 per token");
  const double exact = result.at("metrics").at("ppl").at("value");
  ASSERT_EQ(ptq("eval " + out + " --products fake --text " + file("t", words) + " --seqlen 64 --json " + json).code, 0);
  const double fake = read_json(json, "result").at("metrics").at("ppl").at("value");
  EXPECT_NEAR(exact, fake, 1e-3 * fake);
}

TEST_F(Cli, EvalMeasuresDivergenceAndCost) {
  const std::string model = (miniature / "opt").string(), out = (tmp.path() / "q").string();
  const std::string json = (tmp.path() / "r.json").string();
  std::string words;
  for (int i = 0; i < 200; ++i) words += "the king gave the book to the child . ";
  const std::string windows = " --text " + file("t", words) + " --seqlen 64 --windows 4 --json " + json;
  ASSERT_EQ(ptq("quantize " + model + " " + out + " --method rtn --bits 3 --group 32").code, 0);
  ASSERT_EQ(ptq("eval " + out + " --metrics ppl,kld --against " + model + " --decode-tokens 3" + windows).code, 0);
  const auto result = read_json(json, "result");
  const auto& kld = result.at("metrics").at("kld");
  EXPECT_GT(kld.at("value"), 0.0);
  EXPECT_GE(kld.at("p99"), kld.at("value"));
  EXPECT_LT(kld.at("top1_agreement"), 1.0);
  EXPECT_EQ(kld.at("windows"), 4);
  EXPECT_GT(result.at("cost").at("decode_tokens_per_second"), 0.0);
  EXPECT_GE(result.at("cost").at("bits_per_weight"), 32.0);
  ASSERT_EQ(ptq("eval " + model + " --metrics kld --against " + model + " --decode-tokens 0" + windows).code, 0);
  const auto self = read_json(json, "result");
  EXPECT_EQ(self.at("metrics").at("kld").at("value"), 0.0);
  EXPECT_FALSE(self.at("cost").contains("decode_tokens_per_second"));
  refuses(2, "eval " + model + " --metrics kld" + windows, {"--against"});
  refuses(2, "eval " + model + " --against " + model + windows, {"kld"});
}

TEST_F(Cli, Generate) {
  const std::string model = (miniature / "llama3").string(), prompt = " --prompt 'the king gave' --tokens 6";
  const Outcome text = ptq("generate " + model + prompt);
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* what : {"prefill", "decode", "bits per weight", "cache", "peak"})
    EXPECT_NE(text.err.find(what), std::string::npos) << what;
  const Outcome first = ptq("generate " + model + prompt + " --json --ignore-eos");
  const auto result = nlohmann::json::parse(first.out);
  EXPECT_EQ(result.at("ids").size(), 6u);
  EXPECT_GT(result.at("cost").at("bits_per_weight"), 1.0);
  EXPECT_EQ(result.at("ids"),
            nlohmann::json::parse(ptq("generate " + model + prompt + " --json --ignore-eos").out).at("ids"));
  refuses(2, "generate " + model, {"--prompt"});
  refuses(2, "generate " + model + prompt + " --top-p 0", {"--top-p"});
  refuses(65, "generate " + (miniature / "opt").string() + " --prompt a --tokens 100000", {"positions"});
}

// A cap between what two blocks and what all three need.
TEST_F(Cli, GpuMemory) {
  const std::string model = (miniature / "llama3").string(), ids = file("ids", "1 2 3 4 5\n6 7 8");
  const std::string logits = "--device simt logits " + model + " --ids " + ids;
  const Outcome all = ptq(logits);
  ASSERT_EQ(all.code, 0) << all.err;
  const std::string cap = " --gpu-memory 0.0022";
  for (const char* lag : {"copies", "kernels"}) {
    const Outcome streamed = ptq(logits + cap, std::string("export PTQ_SIMT_LAG=") + lag);
    EXPECT_EQ(streamed.code, 0);
    EXPECT_EQ(streamed.out, all.out);
    EXPECT_EQ(streamed.err.rfind("weights: streamed, 2 of 3 blocks on the device at a time, ", 0), 0u) << streamed.err;
    EXPECT_EQ(std::count(streamed.err.begin(), streamed.err.end(), '\n'), 1) << streamed.err;
  }
  refuses(75, logits + " --gpu-memory 1e-4", {"two of its 3 blocks", "--gpu-memory", "--device cpu"});
  refuses(75, logits + " --gpu-memory 1e-300", {"--gpu-memory"});
  for (const char* bad : {"-1", "nan", "inf", "1e9", "much"})
    refuses(2, logits + " --gpu-memory " + bad, {"--gpu-memory"});
}

TEST_F(Cli, Calibration) {
  const std::string model = (miniature / "llama3").string(), out = (tmp.path() / "c.ids").string();
  ASSERT_EQ(ptq("calibration nonsense --model " + model + " --samples 2 --seqlen 32 --seed 7 --out " + out).code, 0);
  const auto manifest = read_json(out + ".json", "manifest");
  EXPECT_EQ(manifest.at("windows"), 2);
  const Outcome replay = ptq("calibration ids:" + out);
  ASSERT_EQ(replay.code, 0) << replay.err;
  EXPECT_EQ(nlohmann::json::parse(replay.out).at("ids_sha256"), manifest.at("ids_sha256"));
  EXPECT_EQ(ptq("calibration --replay " + out + ".json --model " + model).code, 0);
  refuses(2, "calibration --replay " + out + ".json --samples 3", {"--replay"});
  refuses(2, "calibration nonsense --replay " + out + ".json --model " + model, {"--replay"});
  refuses(2, "calibration --model " + model, {"--list"});
  const Outcome list = ptq("calibration --list --data /nowhere");
  EXPECT_EQ(list.code, 0);
  EXPECT_NE(list.out.find("flores:LANG"), std::string::npos);
  refuses(66, "calibration frobnicate --list", {"frobnicate"});
  refuses(66, "calibration c4 --model " + model + " --data /nowhere", {"c4"});
  refuses(2, "calibration c4", {"--model"});
}

}  // namespace
}  // namespace ptq
