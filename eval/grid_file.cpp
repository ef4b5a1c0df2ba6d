#include "eval/grid_file.h"

#include "data/near_names.h"
#include "eval/grid_cells.h"
#include "eval/grid_items.h"
#include "eval/toml.h"
#include "host/files.h"
#include "host/printable.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ptq {

namespace {

namespace fs = std::filesystem;

// The library bounds how deep values are nested, but not how many parts a dotted key has, each of which is a table in
// the one before: without a bound, a line of dots would use up the stack.
void require_few_dots(std::string_view text, const fs::path& file) {
  constexpr std::ptrdiff_t most_dots = 128;
  std::size_t line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = text.substr(begin, end - begin);
    require(std::ranges::count(content, '.') <= most_dots, Exit::data,
            "{}:{}: more than {} dots on a line; break the list, or shorten the key", file.string(), line, most_dots);
    begin = end + 1;
  }
}

// Indices of the items that the patterns of `key` name, all if the key is absent.
template <class Item, class Names>
std::vector<std::size_t> choose(TomlFields& f, const char* key, const std::vector<Item>& items, const Names& names_of) {
  const auto patterns = f.texts(key);
  std::vector<bool> named(items.size(), !patterns.has_value());
  for (std::size_t n = 0; patterns && n < patterns->size(); ++n) {
    bool any = false;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto names = names_of(items[i]);
      if (std::ranges::none_of(names, [&](const std::string& s) { return matches_pattern((*patterns)[n], s); }))
        continue;
      named[i] = any = true;
    }
    if (any) continue;
    std::vector<std::string> known;
    for (const Item& item : items) {
      for (const std::string& name : names_of(item)) {
        if (!name.empty()) known.push_back(name);
      }
    }
    std::ranges::sort(known);
    known.erase(std::unique(known.begin(), known.end()), known.end());
    fail(Exit::data, "{}{}: {} '{}' names nothing of this grid; near: {}", f.place(key, n), f.what(), key,
         printable((*patterns)[n]), printable(fmt::format("{}", fmt::join(near_names((*patterns)[n], known), ", "))));
  }
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (named[i]) chosen.push_back(i);
  }
  return chosen;
}

template <class Item>
auto own_name(const Item& item) {
  return std::array{item.name};
}
// A twin drawn with several seeds is also found by its common name.
std::array<std::string, 2> model_names(const GridModel& m) {
  const auto seed = m.inject ? m.name.rfind(" #") : std::string::npos;
  return {m.name, m.name.substr(0, seed)};
}
std::array<std::string, 3> set_names(const GridSet& s) { return {s.name, s.group, s.title}; }

Product read_product(TomlFields f, const Grid& grid, bool with_metrics) {
  Product p;
  p.where = f.place();
  p.models = choose(f, "models", grid.model, model_names);
  p.methods = choose(f, "methods", grid.method, own_name<GridMethod>);
  p.sets = choose(f, "sets", grid.set, set_names);
  p.names_sets = f.any("sets") != nullptr;
  if (with_metrics) p.metrics = choose(f, "metrics", grid.metrics, own_name<GridMetric>);
  f.finish();
  return p;
}

StudyProduct read_study(TomlFields f, Grid& grid) {
  ActivationSpec spec;
  if (const auto side = f.text("side")) spec.side = in_file(f.place("side"), [&] { return parse_side(*side); });
  spec.bins = f.integer("bins", 1, max_histogram_bins).value_or(spec.bins);
  spec.range = f.number("range").value_or(spec.range);
  if (!(spec.range > 0.0)) f.fail("range", "must be above 0");
  StudyProduct p;
  p.models = choose(f, "models", grid.model, model_names);
  p.sets = choose(f, "sets", grid.set, set_names);
  f.finish();
  p.study = grid.study.size();
  grid.study.push_back(spec);
  return p;
}

nlohmann::json json_of(const toml::node& node, const std::string& file) {
  if (const auto* v = node.as_string()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_boolean()) return v->get();
  if (const auto* v = node.as_floating_point(); v && std::isfinite(v->get())) return v->get();
  nlohmann::json json;
  if (const auto* list = node.as_array()) {
    json = nlohmann::json::array();
    for (const toml::node& element : *list) json.push_back(json_of(element, file));
    return json;
  }
  const auto* table = node.as_table();
  require(table != nullptr, Exit::data, "{}[report] holds numbers, strings, booleans, lists and tables only",
          toml_place(file, node));
  json = nlohmann::json::object();
  for (const auto& [key, value] : *table) json[std::string(key.str())] = json_of(value, file);
  return json;
}

// What the axes need; an axis that is empty would make a grid of nothing.
void require_axes(const Grid& grid) {
  const auto there = [&](bool any, const char* table) {
    require(any, Exit::data, "{}:1: no [[{}]]: the grid would be empty", grid.file.string(), table);
  };
  there(!grid.model.empty(), "model");
  there(!grid.method.empty(), "method");
  there(!grid.metrics.empty(), "metric");
  const bool calibrated = std::ranges::any_of(grid.method, &GridMethod::needs_set);
  require(!calibrated || !grid.set.empty(), Exit::data, "{}:1: no [[set]], but methods need calibration",
          grid.file.string());
}

}  // namespace

Grid parse_grid(std::string_view text, const fs::path& file) {
  require_few_dots(text, file);
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& e) {
    fail(Exit::data, "{}:{}: not TOML: {}", file.string(), e.source().begin.line, printable(e.description(), 300));
  }
  Grid grid;
  grid.file = file;
  TomlFields f(root, file.string(), "");
  grid.name = f.text("name").value_or(file.stem().string());
  if (const auto dtype = f.text("dtype")) grid.dtype = parse_dtype(f, *dtype);
  const fs::path directory = file.parent_path();
  if (const auto models = f.text("models")) grid.models = directory / *models;
  if (const auto data = f.text("data")) grid.data = directory / *data;
  grid.report = nlohmann::json::object();
  if (const toml::node* report = f.any("report")) {
    require(report->is_table(), Exit::data, "{}report must be a table", toml_place(file.string(), *report));
    grid.report = json_of(*report, file.string());
  }
  for (TomlFields& t : f.tables("metric")) read_metric(t, grid);
  for (TomlFields& t : f.tables("model")) read_model(t, grid);
  for (TomlFields& t : f.tables("method")) read_method(t, grid);
  for (TomlFields& t : f.tables("set")) read_set(t, grid);
  grid.baseline = f.text("baseline").value_or("");
  require(grid.baseline.empty() || std::ranges::find(grid.set, grid.baseline, &GridSet::name) != grid.set.end(),
          Exit::data, "{}baseline '{}' is not a [[set]] of this grid", f.place("baseline"), printable(grid.baseline));

  std::vector<Product> exclude, include;
  std::vector<StudyProduct> studies;
  const auto axes = f.table("axes");
  auto excludes = f.tables("exclude"), includes = f.tables("include"), study_tables = f.tables("study");
  f.finish();
  require_axes(grid);
  const toml::table all;  // without [axes]
  Product product = read_product(axes ? *axes : TomlFields(all, file.string(), "[axes]"), grid, true);
  if (!axes) product.where = file.string() + ":1: ";
  for (TomlFields& t : excludes) exclude.push_back(read_product(t, grid, false));
  for (TomlFields& t : includes) include.push_back(read_product(t, grid, true));
  for (TomlFields& t : study_tables) studies.push_back(read_study(t, grid));
  expand(grid, product, exclude, include, studies);
  require(!grid.cells.empty(), Exit::data, "{}:1: nothing is left of the grid after [[exclude]]", file.string());
  return grid;
}

Grid read_grid(const fs::path& file) {
  constexpr std::uint64_t limit = std::uint64_t{16} << 20;
  return parse_grid(read_file(file, "grid", Size(limit)), file);
}

}  // namespace ptq
