#include "data/questions.h"

#include "data/calibration_sets.h"
#include "data/tasks.h"
#include "host/error.h"
#include "host/printable.h"

#include <algorithm>
#include <array>

namespace ptq {

namespace {

using Texts = std::vector<std::string>;

void add_choice(const ChoiceDocument& d, std::size_t choice, Texts& texts) {
  texts.push_back(d.contexts[choice] + d.continuations[choice]);
}

struct Format {
  const char* name;
  void (*render)(const ChoiceDocument&, Texts&);
};

constexpr std::array formats{
    Format{"qa", [](const ChoiceDocument& d, Texts& t) { add_choice(d, static_cast<std::size_t>(d.gold), t); }},
    Format{"answers",
           [](const ChoiceDocument& d, Texts& t) {
             t.push_back(d.continuations[static_cast<std::size_t>(d.gold)].substr(1));  // without its leading space
           }},
    Format{"all-choices",
           [](const ChoiceDocument& d, Texts& t) {
             for (std::size_t choice = 0; choice < d.contexts.size(); ++choice) add_choice(d, choice, t);
           }},
};

}  // namespace

std::vector<std::string> question_formats() {
  std::vector<std::string> names;
  for (const Format& format : formats) names.emplace_back(format.name);
  return names;
}

QuestionTexts question_texts(const std::string& name, const std::filesystem::path& data, const std::string& format) {
  const auto* chosen = std::find_if(formats.begin(), formats.end(), [&](const Format& f) { return format == f.name; });
  require(chosen != formats.end(), Exit::usage, "calibration format '{}' is none of {}", printable(format),
          fmt::join(question_formats(), ", "));
  const Task task = read_task(name, data);
  QuestionTexts result;
  for (const ChoiceDocument& document : task.documents) chosen->render(document, result.texts);
  const auto known = known_tasks();
  const bool published = std::find(known.begin(), known.end(), name) != known.end();
  for (const SourceFile& source : task.sources)
    result.files.push_back(
        {published ? data / source.name : std::filesystem::path(name), source.name, FileFormat::jsonl});
  return result;
}

}  // namespace ptq
