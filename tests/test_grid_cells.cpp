// From axes to cells: products, exclusions, inclusions, the order of computation, and parts for several jobs.
#include "eval/grid_cells.h"
#include "eval/grid_file.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace ptq {
namespace {

const std::string items = R"(
[[metric]]
name = "ppl"
text = "wikitext2"
[[metric]]
name = "piqa"
task = "piqa"
[[model]]
name = "A"
path = "a"
[[model]]
name = "B"
path = "b"
[[model]]
name = "out"
of = "A"
inject = { seeds = [1, 2] }
[[method]]
name = "FP"
method = "full-precision"
[[method]]
name = "GPTQ"
method = "gptq"
[[method]]
name = "AWQ"
method = "awq"
[[method]]
name = "dead"
method = "remove-dead"
[[method]]
name = "gone"
method = "remove-injected"
[[set]]
name = "c4"
set = "c4"
sampling = "gptq"
seeds = [1, 2]
[[set]]
name = "langs"
sets = ["flores:a_A", "flores:b_B"]
)";

std::vector<std::string> titles(const std::string& cells) {
  const Grid grid = parse_grid(items + cells, "g.toml");
  std::vector<std::string> all;
  for (const GridCell& cell : grid.cells) {
    std::string title = grid.title(cell);
    if (cell.metrics.size() == 1) title += " (" + grid.metrics[cell.metrics[0]].name + ")";
    all.push_back(title);
  }
  return all;
}

using Titles = std::vector<std::string>;

TEST(GridCells, ProductInTheOrderOfComputation) {
  EXPECT_EQ(titles("[axes]\nmodels = [\"B\", \"A\"]\nmethods = [\"AWQ\", \"FP\", \"GPTQ\"]\nsets = [\"c4\"]\n"),
            (Titles{"A, FP", "A, AWQ, c4 #1", "A, GPTQ, c4 #1", "A, AWQ, c4 #2", "A, GPTQ, c4 #2",  //
                    "B, FP", "B, AWQ, c4 #1", "B, GPTQ, c4 #1", "B, AWQ, c4 #2", "B, GPTQ, c4 #2"}));
}

TEST(GridCells, NamesAndPatterns) {
  const std::string axes = "[axes]\nmodels = [\"A\"]\nmethods = [\"GPTQ\"]\nmetrics = [\"ppl\"]\nsets = ";
  EXPECT_EQ(titles(axes + "[\"langs\"]\n"), (Titles{"A, GPTQ, flores:a_A (ppl)", "A, GPTQ, flores:b_B (ppl)"}));
  EXPECT_EQ(titles(axes + "[\"flores:?_B\", \"flores:b*\"]\n"), (Titles{"A, GPTQ, flores:b_B (ppl)"}));
  EXPECT_EQ(titles(axes + "[\"* #2\"]\n"), (Titles{"A, GPTQ, c4 #2 (ppl)"}));
  EXPECT_EQ(titles("[axes]\nmodels = [\"out\"]\nmethods = [\"FP\"]\n"), (Titles{"out #1, FP", "out #2, FP"}));
  EXPECT_EQ(titles("[axes]\nmodels = [\"out #2\"]\nmethods = [\"FP\"]\n"), (Titles{"out #2, FP"}));
  EXPECT_TRUE(matches_pattern("a*b*c", "axxbyybzc"));
  EXPECT_FALSE(matches_pattern("a*b*c", "axxbyybz"));
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_FALSE(matches_pattern("?", ""));
  EXPECT_FALSE(matches_pattern(std::string(2000, '*') + "b", std::string(2000, 'a')));
}

TEST(GridCells, ExclusionsAndInclusions) {
  const std::string axes = "[axes]\nmodels = [\"A\", \"B\"]\nmethods = [\"FP\", \"GPTQ\", \"dead\"]\nsets = [\"c4\"]\n";
  // One that names sets leaves the baseline alone.
  EXPECT_EQ(titles(axes + "[[exclude]]\nsets = [\"c4 #2\"]\n[[exclude]]\nmodels = [\"B\"]\nmethods = [\"dead\"]\n"),
            (Titles{"A, FP", "A, GPTQ, c4 #1", "A, dead, c4 #1", "B, FP", "B, GPTQ, c4 #1"}));
  EXPECT_EQ(titles(axes + "[[exclude]]\nmodels = [\"A\"]\n[[exclude]]\nmethods = [\"GPTQ\", \"dead\"]\n"),
            (Titles{"B, FP"}));
  // An inclusion adds what was excluded, and metrics to cells that are there.
  const std::string one = "[axes]\nmodels = [\"A\"]\nmethods = [\"FP\"]\nmetrics = [\"ppl\"]\n";
  EXPECT_EQ(titles(one), (Titles{"A, FP (ppl)"}));
  EXPECT_EQ(titles(one + "[[include]]\nmodels = [\"A\"]\nmethods = [\"FP\"]\nmetrics = [\"piqa\"]\n"),
            (Titles{"A, FP"}));
  EXPECT_EQ(titles(one + "[[include]]\nmodels = [\"out #1\"]\nmethods = [\"gone\"]\nmetrics = [\"piqa\"]\n"),
            (Titles{"A, FP (ppl)", "out #1, gone (piqa)"}));
  EXPECT_EQ(titles(axes + "[[exclude]]\n[[include]]\nmodels = [\"B\"]\nmethods = [\"GPTQ\"]\nsets = [\"c4 #1\"]\n"),
            (Titles{"B, GPTQ, c4 #1"}));  // an exclusion without names is of everything
}

TEST(GridCells, StudiesStandBeforeTheMethodsOfTheirSet) {
  EXPECT_EQ(
      titles("[axes]\nmodels = [\"A\"]\nmethods = [\"FP\", \"GPTQ\"]\nsets = [\"c4\"]\n"
             "[[study]]\nmodels = [\"A\"]\nsets = [\"c4 #2\", \"flores:b_B\"]\n"),
      (Titles{"A, FP", "A, GPTQ, c4 #1", "A, activations, c4 #2", "A, GPTQ, c4 #2", "A, activations, flores:b_B"}));
  // Two studies with different parameters are two cells, the same one twice as well: it is the caller's second study.
  const Grid grid = parse_grid(items +
                                   "[axes]\nmodels = [\"A\"]\nmethods = [\"FP\"]\n[[study]]\nmodels = [\"A\"]\nsets = "
                                   "[\"c4 #1\"]\n[[study]]\nmodels = [\"A\"]\nsets = [\"c4 #1\"]\nbins = 10\n",
                               "g.toml");
  EXPECT_EQ(grid.studies(), 2u);
  EXPECT_EQ(grid.evaluations(), 1u);
}

// Every cell is in exactly one part, parts are contiguous, and none has much more than its share.
void expect_parts(const std::vector<double>& cost, std::int64_t count) {
  std::vector<std::size_t> all;
  const double total = std::accumulate(cost.begin(), cost.end(), 0.0);
  const double largest = cost.empty() ? 0.0 : *std::ranges::max_element(cost);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::vector<std::size_t> mine = shard_of(cost, i, count);
    double sum = 0.0;
    for (const std::size_t cell : mine) sum += cost[cell];
    EXPECT_LE(sum, total / static_cast<double>(count) + largest * (1 + 1e-9)) << i << " of " << count;
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::vector<std::size_t> expected(cost.size());
  std::iota(expected.begin(), expected.end(), std::size_t{0});
  EXPECT_EQ(all, expected) << count;
}

TEST(GridCells, EveryCellIsInExactlyOneShard) {
  std::vector<double> uneven;
  for (int i = 0; i < 97; ++i) uneven.push_back(i % 7 == 0 ? 1000.0 : 1.0 + i);
  for (const std::int64_t count : {1, 2, 3, 7, 8, 96, 97, 98, 1000}) {
    expect_parts(uneven, count);
    expect_parts(std::vector<double>(97, 1.0), count);
    expect_parts(std::vector<double>(97, 0.0), count);
    expect_parts({}, count);
    expect_parts({5.0}, count);
    expect_parts({1e-300, 1e300, 1.0}, count);
  }
  expect_error(Exit::internal, "shard", [] { shard_of({1.0}, 2, 2); });
  expect_error(Exit::internal, "shard", [] { shard_of({1.0}, -1, 2); });
}

}  // namespace
}  // namespace ptq
