// ptq bench: the figures it writes, and that mistakes are told before the work, in a line.
#include "program.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sstream>

namespace ptq {
namespace {

class Bench : public ::testing::Test {
 protected:
  Outcome bench(const std::string& arguments) {
    return run_ptq(tmp_.path(), "--threads 2 bench --shrink 32 --tokens 24 --seconds 0 " + arguments);
  }
  void refuses(int code, const std::string& arguments, const std::vector<std::string>& words) {
    SCOPED_TRACE(arguments);
    const Outcome r = bench(arguments);
    expect_failure(r, code, words);
    EXPECT_EQ(r.out, "");  // nothing was run
  }

  TemporaryDirectory tmp_;
};

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields{""};
  bool quoted = false;
  for (char c : line) {
    if (c == '"') quoted = !quoted;
    if (c == ',' && !quoted)
      fields.emplace_back();
    else if (c != '"')
      fields.back() += c;
  }
  return fields;
}

TEST_F(Bench, CsvAndJsonHoldTheSameFigures) {
  const std::string csv = (tmp_ / "figures.csv").string();
  const Outcome r = bench("--filter 'linear bf16' --json --csv " + csv);
  ASSERT_EQ(r.code, 0) << r.err;
  const auto json = nlohmann::json::parse(r.out);
  std::istringstream lines(read_file(csv, "figures"));
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> names = split(line);
  std::size_t rows = 0;
  for (; std::getline(lines, line); ++rows) {
    const std::vector<std::string> fields = split(line);
    ASSERT_EQ(fields.size(), names.size()) << line;
    const auto& same = json.at("cases").at(rows);
    for (std::size_t i = 0; i + 1 < names.size(); ++i) {
      const auto& value = same.at(names[i]);
      if (value.is_null())
        EXPECT_EQ(fields[i], "") << names[i];
      else if (value.is_string())
        EXPECT_EQ(fields[i], value.get<std::string>());
      else
        EXPECT_NEAR(std::stod(fields[i]), value.get<double>(), 1e-5 * std::fabs(value.get<double>())) << names[i];
    }
    EXPECT_EQ(fields.back(), json.at("device").get<std::string>());
    EXPECT_EQ(same.at("error"), 0.0);  // the backend against itself
    EXPECT_GT(same.at("us"), 0.0);
    EXPECT_TRUE(same.at("yardstick").is_null());
  }
  EXPECT_EQ(rows, json.at("cases").size());
  EXPECT_GT(rows, 4u);
}

TEST_F(Bench, MistakesAreToldBeforeTheWork) {
  refuses(2, "--filter frobnicate", {"frobnicate", "ptq bench --list"});
  refuses(73, "--filter 'linear bf16' --csv " + (tmp_ / "nowhere" / "figures.csv").string(), {"nowhere"});
  refuses(2, "--shrink 3", {"--shrink"});
  refuses(2, "--gemm cublas", {"--gemm cublas", "--device"});
  refuses(2, "--gemm cublas --device simt", {"--gemm cublas", "--device simt"});
  refuses(2, "--gemm fast", {"--gemm"});
  refuses(2, "--filter steps", {"ladder", "--device"});
}

TEST_F(Bench, StepsCompeteWithTheProductionKernel) {
  const Outcome r = bench("--device simt --filter 'steps gemm/2' --json");
  ASSERT_EQ(r.code, 0) << r.err;
  const auto row = nlohmann::json::parse(r.out).at("cases").at(0);
  EXPECT_EQ(row.at("yardstick"), "production kernel");
  EXPECT_GT(row.at("x_low"), 0.0);
  EXPECT_LE(row.at("x_low"), row.at("x_yardstick"));
  EXPECT_LE(row.at("x_yardstick"), row.at("x_high"));
  EXPECT_EQ(row.at("yardstick_error"), row.at("error"));  // the same sums in the same order
}

TEST_F(Bench, ListNamesWhatFilterTakes) {
  const Outcome r = bench("--list --filter gram");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_NE(r.out.find("gram bf16 | T 96 I 128\n"), std::string::npos) << r.out;
  EXPECT_EQ(r.out.find("attention"), std::string::npos);
}

}  // namespace
}  // namespace ptq
