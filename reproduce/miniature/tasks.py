"""The multiple-choice tasks: one item about every composition that no text contains (facts.py), in seeded order.

arc         four options, of which the rules make one right
piqa        how to reach a goal: two sentences that differ in the tool; the wrong one suits another kind of patient
winogrande  records of WinoGrande's own shape: whom of two people a state fits; scored by what follows the blank
"""
import lexicon as lex
from chance import Draw
from facts import (CONDITIONS, DEEDS, HELD_OUT_GOALS, HELD_OUT_OUTCOMES, HELD_OUT_STATES, HELD_OUT_VALUES, PEOPLE,
                   TEMPERAMENT, TOOLS, outcome, tool, value)
from world import animal_answer, animal_question, goal_answer, goal_question, object_answer, object_question


def _item(context, answers, right):
    return {"context": context, "choices": answers, "gold": right}


def arc_items():
    draw = Draw("arc items")
    items = []
    for noun, condition in HELD_OUT_OUTCOMES:
        options = draw.shuffled(CONDITIONS[condition])
        items.append(_item(object_question(noun, condition), [object_answer(o) for o in options],
                           options.index(outcome(noun, condition))))
    for animal, attribute in HELD_OUT_VALUES:
        right = value(animal, attribute)
        wrong = draw.shuffled(v for v in lex.ATTRIBUTES[attribute][2] if v != right)[:3]
        options = draw.shuffled([right] + wrong)
        items.append(_item(animal_question(animal, attribute), [animal_answer(attribute, o) for o in options],
                           options.index(right)))
    return draw.shuffled(items)


def piqa_items():
    draw = Draw("piqa items")
    items = []
    for action, patient in HELD_OUT_GOALS:
        right = tool(action, patient)
        options = draw.shuffled([right, draw.pick([t for t in TOOLS[action] if t != right])])
        items.append(_item(goal_question(action, patient), [goal_answer(action, patient, o) for o in options],
                           options.index(right)))
    return draw.shuffled(items)


def winogrande_items():
    draw = Draw("winogrande items")
    items = []
    for person, state in HELD_OUT_STATES:
        other = draw.pick([p for p in PEOPLE if TEMPERAMENT[p] != TEMPERAMENT[person]])
        doer, patient = draw.shuffled([person, other])
        options = draw.shuffled([person, other])
        items.append({"sentence": f"the {doer} {draw.pick(DEEDS)} the {patient} because the _ was {state}.",
                      "option1": options[0], "option2": options[1], "answer": str(options.index(person) + 1)})
    return draw.shuffled(items)


TASKS = {"arc": arc_items, "piqa": piqa_items, "winogrande": winogrande_items}


def requests(item):
    """The item as the evaluation scores it: (context, continuation) for every choice, and the right one's index."""
    if "sentence" in item:
        before, after = item["sentence"].split("_")
        return [(before + item[o], " " + after.strip()) for o in ("option1", "option2")], int(item["answer"]) - 1
    return [(item["context"], " " + c) for c in item["choices"]], item["gold"]
