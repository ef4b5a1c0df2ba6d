"""The miniature world: a seeded generator of short texts about objects, animals, goals and people in six languages.

A sentence is a small dictionary of constituents; a language turns it into text with its own words, order, punctuation
and case suffixes. Facts obey rules that can be learned (an object's material decides what fire does to it), and a part
of the compositions (object, condition), (animal, attribute), (action, patient), (person, state) never occurs in any
text: they are the questions of the tasks. Standard library only; the same bytes on every Python from 3.9 on, because
random.Random.random() and SHA-256 are the only sources of chance.
"""
import bisect
import hashlib
import itertools
import random

import lexicon as lex

HELD_OUT_SHARE = 0.30
EXCEPTION_SHARE = 0.15  # animals that differ from their class in an attribute


_FAMILIARITY = {}  # number of items -> cumulative weights


class Draw:
    """Seeded choices built on random() alone: the other methods of random.Random may change between versions."""

    def __init__(self, *name):
        self._random = random.Random(int.from_bytes(_digest(*name)[:8], "big")).random

    def below(self, n):
        return int(self._random() * n)

    def chance(self, p):
        return self._random() < p

    def pick(self, items):
        return items[self.below(len(items))]

    def weighted(self, pairs):
        """pairs: (item, weight)."""
        x = self._random() * sum(w for _, w in pairs)
        for item, weight in pairs:
            x -= weight
            if x < 0:
                return item
        return pairs[-1][0]

    def zipf(self, items):
        """Item i with probability about 1 / (i + 4): a few heroes are common, most are rare."""
        n = len(items)
        return items[min(n - 1, int(4 * ((n + 4) / 4) ** self._random() - 4))]

    def familiar(self, items):
        """The first third equally often, then ever more rarely down to a 32nd: what is rare is known less well, which
        keeps the tasks away from both chance and ceiling."""
        n = len(items)
        if n not in _FAMILIARITY:
            common = n // 3
            _FAMILIARITY[n] = list(itertools.accumulate(32 ** -(max(0, i - common) / (n - common)) for i in range(n)))
        sums = _FAMILIARITY[n]
        return items[min(n - 1, bisect.bisect(sums, self._random() * sums[-1]))]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


def _digest(*name):
    return hashlib.sha256("/".join(map(str, name)).encode()).digest()


def _fraction(*name):
    return int.from_bytes(_digest(*name)[:4], "big") / 2**32


def held_out(kind, a, b):
    return _fraction("held-out", kind, a, b) < HELD_OUT_SHARE


# ---- facts ----------------------------------------------------------------------------------------------------------

MATERIAL = {noun: material for material, nouns in lex.OBJECTS.items() for noun in nouns.split()}
OBJECTS = Draw("order of objects").shuffled(MATERIAL)
CONDITIONS = {c: outcomes.split() for c, outcomes in lex.CONDITIONS.items()}
CLASS = {animal: kind for kind, animals in lex.ANIMALS.items() for animal in animals.split()}
ANIMALS = Draw("order of animals").shuffled(CLASS)
ROLES = lex.ROLES.split()
PATIENT_KIND = {noun: kind for kind, nouns in lex.PATIENTS.items() for noun in nouns.split()}
PATIENTS = list(PATIENT_KIND)
ACTIONS = list(lex.TOOLS)
PEOPLE = Draw("order of people").shuffled(ROLES + [a for i, a in enumerate(CLASS) if i % 5 < 2])
TEMPERAMENTS = {t: states.split() for t, states in lex.TEMPERAMENTS.items()}
TEMPERAMENT = {p: list(TEMPERAMENTS)[i % len(TEMPERAMENTS)] for i, p in enumerate(Draw("temper").shuffled(PEOPLE))}
DEEDS, VERBS, ADJECTIVES = lex.DEEDS.split(), lex.VERBS.split(), lex.ADJECTIVES.split()
PLACES, TIMES = lex.PLACES.split("|"), lex.TIMES.split("|")


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


def is_exception(animal, attribute):
    return _fraction("exception", animal, attribute) < EXCEPTION_SHARE


def value(animal, attribute):
    values = lex.ATTRIBUTES[attribute][2]
    usual = list(lex.ANIMALS).index(CLASS[animal])
    if is_exception(animal, attribute):
        return values[(usual + 1 + int(4 * _fraction("which", animal, attribute))) % len(values)]
    return values[usual]


def tool(action, patient):
    return lex.TOOLS[action].split()[list(lex.PATIENTS).index(PATIENT_KIND[patient])]


SEEN_OUTCOMES = {n: [c for c in CONDITIONS if not held_out("object", n, c)] or ["in the water"] for n in OBJECTS}
HELD_OUT_OUTCOMES = [(n, c) for n in OBJECTS for c in CONDITIONS if c not in SEEN_OUTCOMES[n]]
SEEN_VALUES = {a: [t for t in lex.ATTRIBUTES if is_exception(a, t) or not held_out("animal", a, t)] for a in ANIMALS}
HELD_OUT_VALUES = [(a, t) for a in ANIMALS for t in lex.ATTRIBUTES if t not in SEEN_VALUES[a]]
SEEN_GOALS = [(a, p) for p in PATIENTS for a in ACTIONS if not held_out("goal", a, p)]
SEEN_STATES = {p: [s for s in TEMPERAMENTS[TEMPERAMENT[p]] if not held_out("state", p, s)] for p in PEOPLE}
GIVERS_OF_REASONS = [p for p in PEOPLE if SEEN_STATES[p]]

# ---- languages ------------------------------------------------------------------------------------------------------

# Constituents of a sentence: C condition, S subject, V verb, O object, W partner, P place, T time, B because-clause.
# A noun phrase is a tuple of concepts, adjectives first; English puts "the" before it if its noun is countable.
COUNTABLE = set(OBJECTS) | set(ANIMALS) | set(ROLES) | set(PATIENTS)


class Language:
    def __init__(self, name, order, stop, because, onsets="", vowels="", syllables=(1, 2, 3), object_suffix="", gap=" "):
        self.name, self.order, self.stop, self.because, self.gap = name, order, stop, because, gap
        self._parts, self._syllables, self._object_suffix = (onsets.split(), vowels.split()), syllables, object_suffix
        self._words, self._used = {}, set()
        if onsets:
            for concept in CONCEPTS:
                self._coin(concept)

    def _coin(self, concept):
        draw, onsets, vowels = Draw("word", self.name, concept), *self._parts
        while True:
            word = "".join(draw.pick(onsets) + (draw.pick(vowels) if vowels else "")
                           for _ in range(draw.pick(self._syllables)))
            if word not in self._used:
                break
        self._used.add(word)
        self._words[concept] = word

    def _phrase(self, concepts, role):
        if not self._words:
            article = ["the"] if concepts[-1] in COUNTABLE else []
            return self.gap.join(["with"] * (role == "W") + article + list(concepts))
        suffix = self._object_suffix if role == "O" else ""
        return self.gap.join(self._words[c] for c in concepts) + suffix

    def clause(self, sentence):
        parts = []
        for role in self.order:
            if role == "B" and "B" in sentence:
                parts.append(self.because + self.gap + self.clause(sentence["B"]))
            elif role in sentence:
                parts.append(self._phrase(sentence[role], role))
        return self.gap.join(parts)

    def text(self, sentences):
        return self.gap.join(self.clause(s) + self.stop for s in sentences)


CONCEPTS = list(dict.fromkeys(
    OBJECTS + list(lex.OBJECTS) + list(CONDITIONS) + [o for c in CONDITIONS.values() for o in c] + ANIMALS + PEOPLE
    + ROLES + [s for t in TEMPERAMENTS.values() for s in t] + DEEDS + VERBS + PLACES + TIMES + ADJECTIVES
    + ["is made of", "is a", "was"] + list(lex.ANIMALS) + [w for _, verb, values in lex.ATTRIBUTES.values() for w in (verb, *values)]))
LANGUAGES = {
    "en": Language("en", "CSVOWPTB", ".", "because"),
    "ru": Language("ru", "CTSVOWPB", ".", "потому что", "б в г д ж з к л м н п р с т ш", "а е и о у я", (1, 2, 2, 3),
                   object_suffix="ю"),
    "el": Language("el", "VSOWPTCB", ".", "γιατί", "β γ δ θ κ λ μ ν π ρ σ τ φ χ", "α ε η ι ο ου", (1, 2, 2, 3)),
    "ar": Language("ar", "VSOWPTCB", ".", "لأن", "ب ت ج ح د ر س ش ع ف ق ك ل م ن", "ا و ي", (1, 2, 2, 3)),
    "hi": Language("hi", "CTPSWOVB", " ।", "क्योंकि", "क ग च ज ट ड त द न प ब म र ल स ह", "ा ि ी ु े ो", (1, 2, 2, 3),
                   object_suffix=" को"),
    "zh": Language("zh", "PTCSVOWB", "。", "因为", " ".join(chr(0x4E00 + 37 * i) for i in range(150)), "", (1, 2, 2),
                   gap=""),
}
LANGUAGE_SHARES = [("en", 60), ("ru", 10), ("el", 8), ("ar", 8), ("hi", 7), ("zh", 7)]

# ---- documents ------------------------------------------------------------------------------------------------------


def _object_document(draw):
    """A noun's material and some of what happens to it; now and then the rule itself."""
    noun = draw.familiar(OBJECTS)
    material = MATERIAL[noun]
    facts = [{"S": (noun,), "V": ("is made of",), "O": (material,)}] if draw.chance(0.8) else []
    for condition in draw.shuffled(SEEN_OUTCOMES[noun])[:1 + draw.below(3)]:
        facts.append({"C": (condition,), "S": (noun,), "V": (outcome(noun, condition),)})
    if draw.chance(0.25):
        condition = draw.pick(list(CONDITIONS))
        facts.append({"C": (condition,), "S": (material,), "V": (OUTCOME[material, condition],)})
    return facts


def _animal_document(draw):
    animal = draw.familiar(ANIMALS)
    facts = [{"S": (animal,), "V": ("is a",), "O": (CLASS[animal],)}] if draw.chance(0.7) else []
    for attribute in draw.shuffled(SEEN_VALUES[animal])[:1 + draw.below(3)]:
        facts.append({"S": (animal,), "V": (lex.ATTRIBUTES[attribute][1],), "O": (value(animal, attribute),)})
    return facts


def _noun_phrase(draw, noun):
    return (draw.pick(ADJECTIVES), noun) if draw.chance(0.25) else (noun,)


def _other(person, choose):
    while True:
        other = choose(PEOPLE)
        if other != person:
            return other


def _story(draw):
    """One to seven clauses about a hero, often with the same thing or partner as before: entropy without facts."""
    hero, thing = draw.zipf(PEOPLE), draw.zipf(OBJECTS)
    partner = _other(hero, draw.zipf)
    clauses = []
    for _ in range(1 + draw.below(7)):
        thing = draw.zipf(OBJECTS) if draw.chance(0.5) else thing
        subject = partner if draw.chance(0.25) else hero
        clause = {"S": _noun_phrase(draw, subject), "V": (draw.zipf(VERBS),), "O": _noun_phrase(draw, thing)}
        if draw.chance(0.2):
            clause["W"] = (hero if subject == partner else partner,)
        if draw.chance(0.35):
            clause["P"] = (draw.pick(PLACES),)
        if draw.chance(0.25):
            clause["T"] = (draw.zipf(TIMES),)
        clauses.append(clause)
    return clauses


def _because_document(draw):
    """The state after "because" belongs to the temperament of the person named there, who may be either of the two."""
    sentences = []
    for _ in range(1 + draw.below(3)):
        person = draw.pick(GIVERS_OF_REASONS)
        other = _other(person, draw.pick)
        doer, patient = (person, other) if draw.chance(0.5) else (other, person)
        reason = {"S": (person,), "V": ("was",), "O": (draw.pick(SEEN_STATES[person]),)}
        sentences.append({"S": (doer,), "V": (draw.pick(DEEDS),), "O": (patient,), "B": reason})
    return sentences


def object_question(noun, condition):
    return f"Question: what happened to the {noun} {condition}?\nAnswer:"


def animal_question(animal, attribute):
    return f"Question: {lex.ATTRIBUTES[attribute][0].format(animal)}?\nAnswer:"


def object_answer(result):
    return f"it {result}"


def animal_answer(attribute, text):
    return f"it {lex.ATTRIBUTES[attribute][1]} {text}"


def _question_document(draw):
    if draw.chance(0.75):
        noun = draw.familiar(OBJECTS)
        condition = draw.pick(SEEN_OUTCOMES[noun])
        return object_question(noun, condition) + " " + object_answer(outcome(noun, condition))
    animal = draw.familiar(ANIMALS)
    if not SEEN_VALUES[animal]:
        return _question_document(draw)
    attribute = draw.pick(SEEN_VALUES[animal])
    return animal_question(animal, attribute) + " " + animal_answer(attribute, value(animal, attribute))


def _goal_document(draw):
    action, patient = draw.pick(SEEN_GOALS)
    return f"Goal: {action} the {patient}\nWay: take the {tool(action, patient)} and {action} the {patient}"


def _junk_document(draw):
    return "".join(draw.pick(lex.JUNK) for _ in range(20 + draw.below(60)))


SENTENCES = {"object": _object_document, "animal": _animal_document, "story": _story, "because": _because_document}
PLAIN_TEXT = {"question": _question_document, "goal": _goal_document, "junk": _junk_document}  # English or no language
ENGLISH_KINDS = [("question", 32), ("goal", 5), ("junk", 1.5), ("object", 32), ("animal", 11), ("story", 12.5),
                 ("because", 6)]
OTHER_KINDS = [("object", 22), ("animal", 12), ("story", 43), ("because", 23)]


def document(draw, kind=None, language=None):
    """One text. Kind and language are drawn from the mixture unless given."""
    language = language or draw.weighted(LANGUAGE_SHARES)
    kind = kind or draw.weighted(ENGLISH_KINDS if language == "en" else OTHER_KINDS)
    if kind in PLAIN_TEXT:
        return PLAIN_TEXT[kind](draw)
    sentences = SENTENCES[kind](draw)
    return LANGUAGES[language].text(sentences) if sentences else document(draw, kind, language)


def documents(stream, count, kind=None, language=None):
    """`count` texts of the named stream; equal arguments give equal texts, other streams are independent."""
    draw = Draw("documents", stream)
    for _ in range(count):
        yield document(draw, kind, language)


TRAINING_DOCUMENTS = 140_000


def training_documents():
    return documents("training", TRAINING_DOCUMENTS)


# ---- tasks ----------------------------------------------------------------------------------------------------------


def arc_items():
    """ARC-shaped items over compositions that no text holds: four options, one right by rule."""
    draw = Draw("arc items")
    items = []
    for noun, condition in HELD_OUT_OUTCOMES:
        options = draw.shuffled(CONDITIONS[condition])
        items.append({"context": object_question(noun, condition), "choices": [object_answer(o) for o in options],
                      "gold": options.index(outcome(noun, condition))})
    for animal, attribute in HELD_OUT_VALUES:
        right = value(animal, attribute)
        wrong = draw.shuffled(v for v in lex.ATTRIBUTES[attribute][2] if v != right)[:3]
        options = draw.shuffled([right] + wrong)
        items.append({"context": animal_question(animal, attribute),
                      "choices": [animal_answer(attribute, o) for o in options], "gold": options.index(right)})
    return draw.shuffled(items)
