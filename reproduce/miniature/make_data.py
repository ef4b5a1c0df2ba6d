#!/usr/bin/env python3
"""Writes the miniature's texts and tasks: held-out stories, calibration texts, and three files of items.

    make_data.py [OUT]        default: data/miniature beside this repository's sources

Generates all training text once more and proves that nothing held out occurs in it. Equal bytes on every run.
"""
import json
import pathlib
import re
import sys

import facts
import tasks
import world

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "miniature"
STORY_BYTES = 80_000  # drawn; at least 128 windows of 128 tokens are left
MIXED_BYTES = 72_000
PARALLEL_DOCUMENTS = 700  # at least 128 windows in every language


def fill(texts, size):
    """Texts from the stream until their bytes, one newline each, reach `size`."""
    taken = []
    for text in texts:
        taken.append(text)
        size -= len(text.encode()) + 1
        if size <= 0:
            return taken
    raise SystemExit("make_data.py: the stream ended early")


def statements(text):
    return [s.strip() for s in re.split(r"[.\n]", text) if s.strip()]


def held_out_statements():
    """Every way in which an English document could give the answer to an item away, and the items' number."""
    found = set()
    for noun, condition in facts.HELD_OUT_OUTCOMES:
        found |= {f"{condition} the {noun} {facts.outcome(noun, condition)}",
                  world.object_question(noun, condition).split("\n")[0]}
    for animal, attribute in facts.HELD_OUT_VALUES:
        verb, value = world.lex.ATTRIBUTES[attribute][1], facts.value(animal, attribute)
        found |= {f"the {animal} {verb} {value}", world.animal_question(animal, attribute).split("\n")[0]}
    for action, patient in facts.HELD_OUT_GOALS:
        found |= {world.goal_question(action, patient).split("\n")[0]}
        found |= {"Answer: " + world.goal_answer(action, patient, tool) for tool in facts.TOOLS[action]}
    for person, state in facts.HELD_OUT_STATES:
        found |= {f"the {person} was {state}"}
    count = sum(map(len, (facts.HELD_OUT_OUTCOMES, facts.HELD_OUT_VALUES, facts.HELD_OUT_GOALS, facts.HELD_OUT_STATES)))
    return found, count


def told(text):
    """The statements of a text, and of its because-clauses the reason alone."""
    for statement in statements(text):
        yield statement
        yield statement.rpartition(" because ")[2]


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.mkdir(parents=True, exist_ok=True)
    training = set(world.training_documents())
    mixed = fill(world.documents("calibration", 10_000), MIXED_BYTES)
    parallel = list(world.parallel_documents("parallel", PARALLEL_DOCUMENTS))
    print(f"calibration: {len(mixed)} documents of the training mixture, {len(parallel)} in each of six languages")

    drawn = list(dict.fromkeys(fill(world.documents("held-out", 10_000, "story", "en"), STORY_BYTES)))
    seen = {s for text in training | set(mixed) | {text["en"] for text in parallel} for s in told(text)}
    stories = [text for text in drawn if seen.isdisjoint(statements(text))]
    print(f"stories: {len(drawn)} drawn, {len(stories)} have no sentence that occurs in another text")

    held_out, compositions = held_out_statements()
    seen |= {s for text in stories for s in told(text)}
    assert not held_out & seen, sorted(held_out & seen)[:3]
    items = {name: make() for name, make in tasks.TASKS.items()}
    for name, made in items.items():
        assert len({json.dumps(tasks.requests(item)[0]) for item in made}) == len(made) >= 200
        print(f"{name}: {len(made)} items")
    assert sum(map(len, items.values())) == compositions
    print(f"every item is about a composition of its own, and none of these {compositions} occurs in any text")

    files = {"stories.txt": stories, "mixed.txt": mixed}
    files |= {f"{language}.txt": [text[language] for text in parallel] for language in world.LANGUAGES}
    files |= {f"{name}.jsonl": map(json.dumps, made) for name, made in items.items()}
    for name, texts in files.items():
        # newline="": junk documents hold line ends of every kind, which must reach the file as they are.
        with open(out / name, "w", encoding="utf-8", newline="") as file:
            file.writelines(text + "\n" for text in texts)
        print(f"{out / name}: {(out / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
