#include "data/tasks.h"

#include "data/jsonl.h"
#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <functional>

namespace ptq {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

const Json& array_member(const Json& record, const char* key, const std::string& origin) {
  const auto member = record.find(key);
  require(member != record.end() && member->is_array(), Exit::data, "{}: \"{}\" must be an array", origin, key);
  return *member;
}

// The usual shape: one context, and " " + choice as its continuations.
void add_choice(ChoiceDocument& d, const std::string& context, const std::string& choice, const std::string& origin) {
  require(!choice.empty(), Exit::data, "{}: choice {} is empty", origin, d.chars.size());
  d.contexts.push_back(context);
  d.continuations.push_back(" " + choice);
  d.chars.push_back(code_points(choice));
}

std::string question(const std::string& text) { return "Question: " + text + "\nAnswer:"; }

// {"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}; labels are A-E or 1-5.
void parse_arc(ChoiceDocument& d, const Json& record, const std::string& origin) {
  const std::string& answer = string_member(record, "answerKey", origin);
  const auto body = record.find("question");
  require(body != record.end() && body->is_object(), Exit::data, "{}: \"question\" must be an object", origin);
  const std::string context = question(string_member(*body, "stem", origin));
  d.gold = -1;
  for (const Json& choice : array_member(*body, "choices", origin)) {
    require(choice.is_object(), Exit::data, "{}: a choice must be an object", origin);
    if (d.gold < 0 && string_member(choice, "label", origin) == answer) d.gold = static_cast<int>(d.chars.size());
    add_choice(d, context, string_member(choice, "text", origin), origin);
  }
  require(d.gold >= 0, Exit::data, "{}: answerKey '{}' is not among the labels", origin, printable(answer));
}

// {"goal", "sol1", "sol2"}; the answers are in a file of their own.
void parse_piqa(ChoiceDocument& d, const Json& record, const std::string& origin) {
  const std::string context = question(string_member(record, "goal", origin));
  for (const char* key : {"sol1", "sol2"}) add_choice(d, context, string_member(record, key, origin), origin);
}

// {"sentence" with one blank "_", "option1", "option2", "answer": "1" or "2"}. Partial scoring: the option completes
// the context, and what follows the blank is the continuation of both.
void parse_winogrande(ChoiceDocument& d, const Json& record, const std::string& origin) {
  const std::string& sentence = string_member(record, "sentence", origin);
  const std::string& answer = string_member(record, "answer", origin);
  const auto blank = sentence.find('_');
  require(blank != std::string::npos, Exit::data, "{}: \"sentence\" has no blank '_'", origin);
  require(answer == "1" || answer == "2", Exit::data, "{}: \"answer\" must be \"1\" or \"2\", not \"{}\"", origin,
          printable(answer));
  const std::string rest(python_strip(std::string_view(sentence).substr(blank + 1)));
  require(!rest.empty(), Exit::data, "{}: nothing follows the blank", origin);
  for (const char* key : {"option1", "option2"}) {
    const std::string& option = string_member(record, key, origin);
    d.contexts.push_back(sentence.substr(0, blank) + option);
    d.continuations.push_back(" " + rest);
    d.chars.push_back(code_points(option));
  }
  d.gold = answer == "1" ? 0 : 1;
}

// A line of a user's file.
void parse_generic(ChoiceDocument& d, const Json& record, const std::string& origin) {
  if (record.contains("sentence")) return parse_winogrande(d, record, origin);
  const std::string& context = string_member(record, "context", origin);
  for (const Json& choice : array_member(record, "choices", origin)) {
    require(choice.is_string(), Exit::data, "{}: choices must be strings", origin);
    add_choice(d, context, choice.get_ref<const std::string&>(), origin);
  }
  const auto gold = record.find("gold");
  require(gold != record.end() && gold->is_number_integer(), Exit::data, "{}: \"gold\" must be an integer", origin);
  const auto index = gold->get<std::int64_t>();
  require(index >= 0 && index < static_cast<std::int64_t>(d.chars.size()), Exit::data,
          "{}: \"gold\" is {}, outside the {} choices", origin, index, d.chars.size());
  d.gold = static_cast<int>(index);
}

struct TaskKind {
  const char* name;
  const char* records;
  const char* labels;  // one 0 or 1 a line, or null
  bool normalized;
  void (*parse)(ChoiceDocument&, const Json&, const std::string&);
};

constexpr std::array kinds{
    TaskKind{"arc_challenge", "arc_challenge/test.jsonl", nullptr, true, parse_arc},
    TaskKind{"piqa", "piqa/dev.jsonl", "piqa/dev-labels.lst", true, parse_piqa},
    TaskKind{"winogrande", "winogrande/dev.jsonl", nullptr, false, parse_winogrande},
};

void read_documents(Task& task, const fs::path& file, const TaskKind& kind, std::int64_t limit) {
  if (limit == 0) return;
  for_each_record(file, "task file", [&](const Json& record, const std::string& origin) {
    ChoiceDocument& d = task.documents.emplace_back();
    d.id = static_cast<std::int64_t>(task.documents.size()) - 1;
    kind.parse(d, record, origin);
    require(d.chars.size() >= 2, Exit::data, "{}: a question needs at least two choices", origin);
    return static_cast<std::int64_t>(task.documents.size()) != limit;
  });
}

// One 0 or 1 a line; with `all`, no more lines than documents.
void read_labels(Task& task, const fs::path& file, bool all) {
  const std::string text = read_file(file, "labels");
  std::string_view rest = text;
  for (std::size_t i = 0; i < task.documents.size(); ++i) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::string_view label = python_strip(line);
    require(label == "0" || label == "1", Exit::data, "{} line {}: expected 0 or 1", file.string(), i + 1);
    task.documents[i].gold = label == "1" ? 1 : 0;
  }
  require(!all || python_strip(rest).empty(), Exit::data, "{} has more labels than the {} documents of {}",
          file.string(), task.documents.size(), task.name);
}

}  // namespace

std::vector<std::string> known_tasks() {
  std::vector<std::string> names;
  for (const TaskKind& kind : kinds) names.emplace_back(kind.name);
  return names;
}

Task read_task(const std::string& name, const fs::path& data, std::int64_t limit) {
  Task task;
  const auto* kind = std::find_if(kinds.begin(), kinds.end(), [&](const TaskKind& k) { return name == k.name; });
  if (kind != kinds.end()) {
    task.name = name;
    task.normalized = kind->normalized;
    const fs::path file = data_file(data, kind->records);
    task.sources.push_back(describe(file, kind->records));
    read_documents(task, file, *kind, limit);
    if (kind->labels) {
      const fs::path labels = data_file(data, kind->labels);
      task.sources.push_back(describe(labels, kind->labels));
      read_labels(task, labels, limit < 0);
    }
  } else {
    const fs::path file(name);
    std::error_code ignored;
    require(fs::exists(file, ignored), Exit::missing, "'{}' is neither a task ({}) nor a JSONL file of questions", name,
            fmt::join(known_tasks(), ", "));
    task.name = file.stem().string();
    task.sources.push_back(describe(file, file.filename().string()));
    read_documents(task, file, {nullptr, nullptr, nullptr, true, parse_generic}, limit);
    task.normalized = std::all_of(task.documents.begin(), task.documents.end(), [](const ChoiceDocument& d) {
      return std::all_of(d.contexts.begin(), d.contexts.end(), [&](const auto& c) { return c == d.contexts[0]; });
    });
  }
  require(!task.documents.empty(), Exit::data, "task '{}' has no documents", name);
  return task;
}

}  // namespace ptq
