#include "eval/grid_items.h"

#include "data/calibration_sets.h"
#include "data/mixture.h"
#include "data/near_names.h"
#include "data/tasks.h"
#include "host/printable.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t most = std::int64_t{1} << 30;
constexpr std::size_t most_draws = 10000, most_models = 10000;  // bound the work on a hostile file

template <class Item>
void require_unique(const std::vector<Item>& items, const TomlFields& fields, const std::string& name) {
  for (const Item& item : items) {
    if (item.name == name) fields.fail(fmt::format("the name '{}' is taken already", printable(name)));
  }
}

ModelShape read_shape(TomlFields f) {
  ModelShape s;
  const auto size = [&](const char* key, std::optional<std::int64_t> otherwise = std::nullopt) {
    const auto value = f.integer(key, 1, std::int64_t{1} << 24);
    if (!value && !otherwise) f.fail(fmt::format("{} is missing", key));
    return value ? *value : *otherwise;
  };
  s.layers = size("layers");
  s.width = size("width");
  s.ffn = size("ffn");
  s.heads = size("heads");
  s.kv_heads = size("kv_heads", s.heads);
  s.head_dim = size("head_dim", std::max<std::int64_t>(1, s.width / s.heads));
  s.vocab = size("vocab");
  s.positions = size("positions", 2048);
  s.gated = f.boolean("gated").value_or(true);
  s.tied = f.boolean("tied").value_or(false);
  f.finish();
  return s;
}

float read_float(TomlFields& f, const char* key, float otherwise) {
  const auto value = f.number(key);
  if (!value) return otherwise;
  if (!(std::fabs(*value) <= 1e30)) f.fail(key, "is out of range");  // fits into a float
  return static_cast<float>(*value);
}

// One spec per seed.
std::vector<InjectSpec> read_inject(TomlFields f) {
  InjectSpec spec;
  const std::string at = f.text("at").value_or("norm");
  spec.places = in_file(f.place("at"), [&] { return parse_places(at); });
  spec.channels = f.integer("channels", 1, std::int64_t{1} << 24).value_or(spec.channels);
  spec.scale = read_float(f, "scale", spec.scale);
  spec.offset = read_float(f, "offset", spec.offset);
  if (!(spec.scale > 0.0f)) f.fail("scale", "must be above 0");
  const bool at_norm = std::ranges::find(spec.places, InjectPlace::norm) != spec.places.end();
  if (spec.offset != 0.0f && !at_norm) f.fail("offset", "applies to at = \"norm\"");
  const auto seed = f.integers("seed"), seeds = f.integers("seeds");
  if (seed && seeds) f.fail("has seed and seeds; give one of them");
  f.finish();
  std::vector<InjectSpec> all;
  for (const std::uint64_t s : seeds ? *seeds : seed ? *seed : std::vector<std::uint64_t>{0}) {
    spec.seed = s;
    all.push_back(spec);
  }
  return all;
}

// Without a data directory a set can be known by its notation only.
void require_set(const std::string& place, const std::string& set) {
  const auto parts = in_file(place, [&] { return parse_mixture(set); });
  for (const MixturePart& part : parts) require_set(place, part.set);
  const bool file = set.find('/') != std::string::npos || set.ends_with(".txt") || set.ends_with(".jsonl");
  if (!parts.empty() || is_named_set(set) || set.starts_with("ids:") || file) return;
  std::vector<std::string> names;
  for (const NamedSet& named : named_sets())
    names.push_back(named.argument.empty() ? named.name : named.name + ":" + named.argument);
  fail(Exit::data,
       "{}'{}' is not a calibration set; did you mean {}? Known: {}, ids:FILE, A:0.5+B:0.5, a file with a /", place,
       printable(set), near_names(set, names, 1).at(0), fmt::join(names, ", "));
}

bool asks_questions(const std::string& set) {
  const auto parts = parse_mixture(set);
  return has_questions(set) || std::ranges::any_of(parts, has_questions, &MixturePart::set);
}

bool uses_seed(const CalibrationRequest& r) {
  return r.sampling == Sampling::gptq || r.sampling == Sampling::awq || r.set.find("nonsense") != std::string::npos ||
         (r.sampling == Sampling::automatic && r.set.find("redpajama") != std::string::npos);
}

void require_unique(const Grid& grid, const GridSet& set) {
  for (const GridSet& other : grid.set) {
    const bool taken =
        other.name == set.name || other.group == set.name || other.name == set.group || other.title == set.name;
    require(!taken, Exit::data, "{}the name '{}' is taken already", set.where, printable(set.name));
  }
}

// What a [[set]] table says about all of its sets.
struct SetTable {
  CalibrationRequest request;
  std::vector<std::uint64_t> seeds{0};
  std::vector<std::optional<std::uint64_t>> orders{std::nullopt};
};

SetTable read_set_table(TomlFields& f) {
  SetTable table;
  table.request.samples = f.integer("samples", 1, std::int64_t{1} << 20);
  table.request.seqlen = f.integer("seqlen", 2, std::int64_t{1} << 20).value_or(table.request.seqlen);
  if (const auto sampling = f.text("sampling")) {
    const auto found = find_sampling(*sampling);
    if (!found) f.fail("sampling", "must be auto, consecutive, gptq or awq");
    table.request.sampling = *found;
  }
  if (const auto format = f.text("format")) {
    const auto known = question_formats();
    if (std::ranges::find(known, *format) == known.end())
      f.fail("format", fmt::format("must be one of {}", fmt::join(known, ", ")));
    table.request.format = *format;
  }
  const auto seed = f.integers("seed"), seeds = f.integers("seeds");
  const auto order = f.integers("order"), orders = f.integers("orders");
  if ((seed && seeds) || (order && orders)) f.fail("has both a value and a list of seed or order; give one of them");
  if (seed || seeds) table.seeds = seeds ? *seeds : *seed;
  const auto& permutations = orders ? orders : order;
  if (permutations) table.orders.assign(permutations->begin(), permutations->end());
  return table;
}

void add_draws(const SetTable& table, GridSet set, Grid& grid) {
  const std::size_t draws = table.seeds.size() * table.orders.size();
  require(draws <= most_draws - std::min(most_draws, grid.set.size()), Exit::data,
          "{}more than {} calibration sets with all their draws; split the grid", set.where, most_draws);
  for (const std::uint64_t seed : table.seeds) {
    for (const auto& order : table.orders) {
      set.request.seed = seed;
      set.order = order;
      set.title = draws > 1 ? fmt::format("{} #{}", set.name, set.draw) : set.name;
      grid.set.push_back(set);
      ++set.draw;
    }
  }
}

}  // namespace

DType parse_dtype(const TomlFields& fields, const std::string& text) {
  if (text == "fp32") return DType::f32;
  if (text == "bf16") return DType::bf16;
  if (text == "fp16") return DType::f16;
  fields.fail("dtype", fmt::format("'{}' is not known; fp32, bf16 or fp16", printable(text)));
}

void read_metric(TomlFields f, Grid& grid) {
  GridMetric m;
  m.name = f.required_text("name");
  const auto text = f.text("text"), task = f.text("task");
  if (text.has_value() == task.has_value()) f.fail("needs either text (perplexity) or task (multiple choice)");
  m.perplexity = text.has_value();
  m.source = text ? *text : *task;
  if (m.perplexity) {
    m.seqlen = f.integer("seqlen", 2, std::int64_t{1} << 20).value_or(m.seqlen);
    m.windows = f.integer("windows", 1, most).value_or(m.windows);
  } else {
    m.limit = f.integer("limit", 1, most).value_or(m.limit);
    m.max_length = f.integer("max_length", 1, std::int64_t{1} << 20).value_or(m.max_length);
    m.bos = f.boolean("bos").value_or(m.bos);
    const auto tasks = known_tasks();
    const bool file = m.source.find('/') != std::string::npos || m.source.ends_with(".jsonl");
    if (!file && std::ranges::find(tasks, m.source) == tasks.end())
      f.fail("task", fmt::format("'{}' is not known; did you mean {}? One of {}, or a JSONL file", printable(m.source),
                                 near_names(m.source, tasks, 1).at(0), fmt::join(tasks, ", ")));
  }
  f.finish();
  require_unique(grid.metrics, f, m.name);
  grid.metrics.push_back(std::move(m));
}

void read_model(TomlFields f, Grid& grid) {
  GridModel m;
  m.name = f.required_text("name");
  m.where = f.place();
  const auto path = f.text("path"), of = f.text("of"), dtype = f.text("dtype");
  auto inject = f.table("inject");
  if (path.has_value() == of.has_value()) f.fail("needs either path or of");
  if (of.has_value() != inject.has_value()) f.fail("of and inject go together: a twin is a model with outliers");
  if (dtype) m.dtype = parse_dtype(f, *dtype);
  if (auto shape = f.table("shape")) m.shape = read_shape(*shape);
  f.finish();
  if (path) {
    m.path = *path;
    require_unique(grid.model, f, m.name);
    grid.model.push_back(m);
    return;
  }
  const auto original = std::ranges::find(grid.model, *of, &GridModel::name);
  if (original == grid.model.end() || original->inject)
    f.fail("of", fmt::format("= '{}' is not a model with a path that stands before this one", printable(*of)));
  m.path = original->path;
  m.of = *of;
  if (!m.dtype) m.dtype = original->dtype;
  if (!m.shape) m.shape = original->shape;
  const std::vector<InjectSpec> specs = read_inject(*inject);
  const std::string name = m.name;
  require_unique(grid.model, f, name);  // twins are also called by the name that they have in common
  for (const InjectSpec& spec : specs) {
    if (specs.size() > 1) m.name = fmt::format("{} #{}", name, spec.seed);
    m.inject = spec;
    if (grid.model.size() >= most_models) f.fail(fmt::format("more than {} models; split the grid", most_models));
    require_unique(grid.model, f, m.name);
    grid.model.push_back(m);
  }
}

void read_method(TomlFields f, Grid& grid) {
  constexpr std::array<std::pair<std::string_view, Treatment>, 3> treatments{
      {{"full-precision", Treatment::full_precision},
       {"remove-dead", Treatment::remove_dead},
       {"remove-injected", Treatment::remove_injected}}};
  GridMethod m;
  m.name = f.required_text("name");
  m.where = f.place();
  require_unique(grid.method, f, m.name);
  const std::string method = f.required_text("method");
  m.treatment = Treatment::quantize;
  for (const auto& [name, treatment] : treatments) {
    if (method == name) m.treatment = treatment;
  }
  if (m.treatment != Treatment::quantize) {
    f.finish();
    grid.method.push_back(std::move(m));
    return;
  }
  QuantSpec& s = m.spec;
  s = in_file(f.place("method"), [&] {
    try {
      return defaults_of(parse_method(method));
    } catch (const Error& e) {
      fail(Exit::usage, "{}, full-precision, remove-dead, remove-injected", e.what());
    }
  });
  const auto choice = [&](const char* key, auto& field, const auto& parse) {
    if (const auto text = f.text(key)) field = in_file(f.place(key), [&] { return parse(*text); });
  };
  if (const auto scheme = f.text("scheme")) in_file(f.place("scheme"), [&] { apply_scheme(s, *scheme); });
  if (const auto damp = f.number("damp")) s.damp = *damp;
  if (const auto alpha = f.number("alpha")) s.alpha = *alpha;
  choice("dead", s.dead, parse_dead);
  choice("hessian_norm", s.hessian_norm, parse_hessian_norm);
  choice("on_singular", s.on_singular, parse_on_singular);
  choice("awq_scaling", s.awq_scaling, parse_awq_scaling);
  s.true_sequential = f.boolean("true_sequential").value_or(s.true_sequential);
  s.clip = f.boolean("clip").value_or(s.clip);
  if (const auto products = f.text("products")) {
    if (*products != "exact" && *products != "fake") f.fail("products", "must be exact or fake");
    if (!s.activations) f.fail("products", "is for methods that quantize activations");
    if (*products == "fake") m.products = IntegerProducts::fake;
  }
  f.finish();
  in_file(f.place(), [&] { validate(s); });
  grid.method.push_back(std::move(m));
}

void read_set(TomlFields f, Grid& grid) {
  const auto one = f.text("set");
  const auto list = f.texts("sets");
  if (one.has_value() == list.has_value()) f.fail("needs either set or sets");
  const SetTable table = read_set_table(f);
  const auto name = list ? f.required_text("name") : f.text("name").value_or(*one);
  f.finish();
  const std::vector<std::string> sets = list ? *list : std::vector{*one};
  for (std::size_t i = 0; i < sets.size(); ++i) {
    GridSet s;
    s.where = list ? f.place("sets", i) : f.place("set");
    require_set(s.where, sets[i]);
    s.name = list ? sets[i] : name;
    s.group = list ? name : "";
    s.request = table.request;
    s.request.set = sets[i];
    require_unique(grid, s);
    require(table.seeds.size() == 1 || uses_seed(s.request), Exit::data,
            "{}seeds do not change {}: give sampling = \"gptq\" (random windows) or one seed", s.where,
            printable(s.name));
    require(table.request.format.empty() || asks_questions(sets[i]), Exit::data,
            "{}format is for sets of questions (arc, piqa), not for '{}'", s.where, printable(sets[i]));
    add_draws(table, std::move(s), grid);
  }
}

}  // namespace ptq
