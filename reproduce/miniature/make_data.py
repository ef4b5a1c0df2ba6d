#!/usr/bin/env python3
"""Writes the miniature's texts and task: held-out stories, calibration text in the training mixture, ARC-shaped items.

    make_data.py [OUT]        default: data/miniature beside this repository's sources

Generates all training text once more and proves that nothing held out occurs in it. Equal bytes on every run.
"""
import json
import pathlib
import sys

import world

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "miniature"
STORY_BYTES = 72_000  # about 160 windows of 128 tokens
CALIBRATION_BYTES = 96_000  # more than 128 windows of 128 tokens


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
    return [s.strip() for s in text.split(".") if s.strip()]


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.mkdir(parents=True, exist_ok=True)
    training = set(world.training_documents())
    training_statements = {s for text in training for s in statements(text)}

    drawn = fill(world.documents("held-out", 10_000, "story", "en"), STORY_BYTES)
    stories = [text for text in dict.fromkeys(drawn) if text not in training]
    assert not training & set(stories)
    seen = [s in training_statements for text in stories for s in statements(text)]
    print(f"stories: {len(drawn)} drawn, {len(drawn) - len(stories)} dropped because training or the file has them; "
          f"{len(stories)} left, {sum(seen)} of their {len(seen)} sentences occur in training")

    calibration = fill(world.documents("calibration", 10_000), CALIBRATION_BYTES)
    assert not set(calibration) & set(stories)
    print(f"calibration: {len(calibration)} documents of the training mixture")

    items = world.arc_items()
    questions = {item["context"] for item in items}
    assert len(questions) == len(items) >= 300
    assert not any(text.split("\nAnswer:")[0] + "\nAnswer:" in questions for text in training | set(calibration))
    facts = [f"{condition} the {noun} {world.outcome(noun, condition)}" for noun, condition in world.HELD_OUT_OUTCOMES]
    facts += [f"the {animal} {world.lex.ATTRIBUTES[attribute][1]} {world.value(animal, attribute)}"
              for animal, attribute in world.HELD_OUT_VALUES]
    assert len(facts) == len(items)
    everything = training_statements | {s for text in calibration + stories for s in statements(text)}
    assert not everything & set(facts)
    print(f"arc: {len(items)} items, each about a fact of its own that no text states")

    lines = {"stories.txt": stories, "calibration.txt": calibration, "arc.jsonl": map(json.dumps, items)}
    for name, texts in lines.items():
        # newline="": junk documents hold line ends of every kind, which must reach the file as they are.
        with open(out / name, "w", encoding="utf-8", newline="") as file:
            file.writelines(text + "\n" for text in texts)
        print(f"{out / name}: {(out / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
