"""What is true in the miniature world, and which of it no text may state.

Facts obey rules that can be learned: an object's material decides what fire does to it, an animal's class what it eats,
a patient's kind which tool cuts it, a person's temperament in which states the person is found. A part of the
compositions (object, condition), (animal, attribute), (action, patient), (person, state) is held out: they are the
questions of the tasks (tasks.py), and no document (world.py) in any language contains them."""
import lexicon as lex
from chance import Draw, fraction

HELD_OUT_SHARE = 0.30
EXCEPTION_SHARE = 0.15  # animals that differ from their class in an attribute


def _held_out(kind, a, b):
    return fraction("held-out", kind, a, b) < HELD_OUT_SHARE


def _groups(table):
    """{"glass": "bottle jar"} -> {"bottle": "glass", "jar": "glass"}"""
    return {word: group for group, words in table.items() for word in words.split()}


# ---- objects --------------------------------------------------------------------------------------------------------

MATERIAL = _groups(lex.OBJECTS)
OBJECTS = Draw("order of objects").shuffled(MATERIAL)
CONDITIONS = {c: outcomes.split() for c, outcomes in lex.CONDITIONS.items()}


def _outcome_table():
    """(material, condition) -> outcome, every outcome of a condition for two or three of the ten materials."""
    table = {}
    for condition, outcomes in CONDITIONS.items():
        for i, material in enumerate(Draw("outcomes", condition).shuffled(lex.OBJECTS)):
            table[material, condition] = outcomes[i % len(outcomes)]
    return table


OUTCOME = _outcome_table()


def outcome(noun, condition):
    return OUTCOME[MATERIAL[noun], condition]


SEEN_OUTCOMES = {n: [c for c in CONDITIONS if not _held_out("object", n, c)] or ["in the water"] for n in OBJECTS}
HELD_OUT_OUTCOMES = [(n, c) for n in OBJECTS for c in CONDITIONS if c not in SEEN_OUTCOMES[n]]

# ---- animals --------------------------------------------------------------------------------------------------------

CLASS = _groups(lex.ANIMALS)
ANIMALS = Draw("order of animals").shuffled(CLASS)


def _is_exception(animal, attribute):
    return fraction("exception", animal, attribute) < EXCEPTION_SHARE


def value(animal, attribute):
    values = lex.ATTRIBUTES[attribute][2]
    usual = list(lex.ANIMALS).index(CLASS[animal])
    if _is_exception(animal, attribute):
        return values[(usual + 1 + int(4 * fraction("which", animal, attribute))) % len(values)]
    return values[usual]


SEEN_VALUES = {a: [t for t in lex.ATTRIBUTES if _is_exception(a, t) or not _held_out("animal", a, t)] for a in ANIMALS}
HELD_OUT_VALUES = [(a, t) for a in ANIMALS for t in lex.ATTRIBUTES if t not in SEEN_VALUES[a]]

# ---- goals ----------------------------------------------------------------------------------------------------------

KIND = _groups(lex.PATIENTS)
PATIENTS = Draw("order of patients").shuffled(KIND)
TOOLS = {action: tools.split() for action, tools in lex.TOOLS.items()}


def tool(action, patient):
    return TOOLS[action][list(lex.PATIENTS).index(KIND[patient])]


SEEN_ACTIONS = {p: [a for a in TOOLS if not _held_out("goal", a, p)] or ["cut"] for p in PATIENTS}
HELD_OUT_GOALS = [(a, p) for p in PATIENTS for a in TOOLS if a not in SEEN_ACTIONS[p]]

# ---- people: everyone with a role, and the animals, who act like people in stories -----------------------------------

ROLES = lex.ROLES.split()
PEOPLE = Draw("order of people").shuffled(ROLES + ANIMALS)
TEMPERAMENTS = {t: states.split() for t, states in lex.TEMPERAMENTS.items()}
TEMPERAMENT = {p: list(TEMPERAMENTS)[i % len(TEMPERAMENTS)] for i, p in enumerate(Draw("temper").shuffled(PEOPLE))}
SEEN_STATES = {p: [s for s in TEMPERAMENTS[TEMPERAMENT[p]] if not _held_out("state", p, s)] for p in PEOPLE}
HELD_OUT_STATES = [(p, s) for p in PEOPLE for s in TEMPERAMENTS[TEMPERAMENT[p]] if s not in SEEN_STATES[p]]
GIVERS_OF_REASONS = [p for p in PEOPLE if SEEN_STATES[p]]

# ---- the rest of the words ------------------------------------------------------------------------------------------

DEEDS, VERBS, ADJECTIVES = lex.DEEDS.split(), lex.VERBS.split(), lex.ADJECTIVES.split()
PLACES, TIMES = lex.PLACES.split("|"), lex.TIMES.split("|")
# Everything that a sentence can name, in an order that never changes: languages coin a word for each.
CONCEPTS = list(dict.fromkeys(
    OBJECTS + list(lex.OBJECTS) + list(CONDITIONS) + [o for c in CONDITIONS.values() for o in c] + ANIMALS + PEOPLE
    + [s for t in TEMPERAMENTS.values() for s in t] + DEEDS + VERBS + PLACES + TIMES + ADJECTIVES
    + ["is made of", "is a", "was", "is"] + list(lex.ANIMALS) + PATIENTS + list(lex.PATIENTS) + list(lex.TEMPERAMENTS)
    + [w for _, verb, values in lex.ATTRIBUTES.values() for w in (verb, *values)]))
COUNTABLE = set(OBJECTS) | set(PEOPLE) | set(PATIENTS)
