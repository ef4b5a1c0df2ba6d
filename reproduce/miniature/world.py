"""The documents of the miniature world: short texts about objects, animals, goals and people in six languages, drawn
from named, seeded streams. Standard library only, and the same bytes on every Python from 3.9 on."""
import lexicon as lex
from chance import Draw
from facts import (ADJECTIVES, ANIMALS, CLASS, CONDITIONS, DEEDS, GIVERS_OF_REASONS, KIND, MATERIAL, OBJECTS, OUTCOME,
                   PATIENTS, PEOPLE, PLACES, SEEN_ACTIONS, SEEN_OUTCOMES, SEEN_STATES, SEEN_VALUES, TEMPERAMENT, TIMES,
                   VERBS, outcome, tool, value)
from languages import LANGUAGES, SHARES

# ---- sentences, for every language ----------------------------------------------------------------------------------


def _object_sentences(draw):
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


def _animal_sentences(draw):
    animal = draw.familiar(ANIMALS)
    facts = [{"S": (animal,), "V": ("is a",), "O": (CLASS[animal],)}] if draw.chance(0.7) else []
    for attribute in draw.shuffled(SEEN_VALUES[animal])[:1 + draw.below(3)]:
        facts.append({"S": (animal,), "V": (lex.ATTRIBUTES[attribute][1],), "O": (value(animal, attribute),)})
    return facts


def _is(noun, class_):
    return {"S": (noun,), "V": ("is",), "O": (class_,)}


def _patient_sentences(draw):
    return [_is(patient, KIND[patient]) for patient in (draw.familiar(PATIENTS) for _ in range(1 + draw.below(3)))]


def _noun_phrase(draw, noun):
    return (draw.pick(ADJECTIVES), noun) if draw.chance(0.25) else (noun,)


def _other(person, choose):
    while True:
        other = choose(PEOPLE)
        if other != person:
            return other


def _story_sentences(draw):
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


def _because_sentences(draw):
    """The state after "because" belongs to the temperament of the person named there, who may be either of the two."""
    sentences = []
    for _ in range(1 + draw.below(3)):
        person = draw.familiar(GIVERS_OF_REASONS)
        if draw.chance(0.4):
            sentences.append(_is(person, TEMPERAMENT[person]))
        other = _other(person, draw.familiar)
        doer, patient = (person, other) if draw.chance(0.5) else (other, person)
        reason = {"S": (person,), "V": ("was",), "O": (draw.pick(SEEN_STATES[person]),)}
        sentences.append({"S": (doer,), "V": (draw.pick(DEEDS),), "O": (patient,), "B": reason})
    return sentences


# ---- questions and junk, English only --------------------------------------------------------------------------------


def object_question(noun, condition):
    return f"Question: what happened to the {noun} {condition}?\nAnswer:"


def animal_question(animal, attribute):
    return f"Question: {lex.ATTRIBUTES[attribute][0].format(animal)}?\nAnswer:"


def goal_question(action, patient):
    return f"Question: how to {action} the {patient}\nAnswer:"


def object_answer(result):
    return f"it {result}"


def animal_answer(attribute, text):
    return f"it {lex.ATTRIBUTES[attribute][1]} {text}"


def goal_answer(action, patient, chosen):
    return f"take the {chosen} and {action} the {patient}"


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
    patient = draw.familiar(PATIENTS)
    action = draw.pick(SEEN_ACTIONS[patient])
    known = f"the {patient} is {KIND[patient]}.\n" if draw.chance(0.4) else ""
    return known + goal_question(action, patient) + " " + goal_answer(action, patient, tool(action, patient))


def _junk_document(draw):
    return "".join(draw.pick(lex.JUNK) for _ in range(20 + draw.below(60)))


# ---- streams of documents -------------------------------------------------------------------------------------------

SENTENCES = {"object": _object_sentences, "animal": _animal_sentences, "patient": _patient_sentences,
             "story": _story_sentences, "because": _because_sentences}
PLAIN_TEXT = {"question": _question_document, "goal": _goal_document, "junk": _junk_document}
ENGLISH_KINDS = [("question", 28), ("goal", 12.5), ("junk", 1.5), ("object", 24), ("animal", 8), ("patient", 4),
                 ("story", 11.5), ("because", 10.5)]
# Without what only English has.
OTHER_KINDS = [("object", 22), ("animal", 10), ("patient", 6), ("story", 41), ("because", 21)]


def _sentences(draw, kind):
    while True:
        sentences = SENTENCES[kind](draw)
        if sentences:
            return sentences


def document(draw, kind=None, language=None):
    """One text. Kind and language are drawn from the mixture unless given."""
    language = language or draw.weighted(SHARES)
    kind = kind or draw.weighted(ENGLISH_KINDS if language == "en" else OTHER_KINDS)
    return PLAIN_TEXT[kind](draw) if kind in PLAIN_TEXT else LANGUAGES[language].text(_sentences(draw, kind))


def documents(stream, count, kind=None, language=None):
    """`count` texts of the named stream; equal arguments give equal texts, other streams are independent."""
    draw = Draw("documents", stream)
    for _ in range(count):
        yield document(draw, kind, language)


def parallel_documents(stream, count):
    """`count` texts, each as a dictionary from language to its rendering: the same content in all six."""
    draw = Draw("documents", stream)
    for _ in range(count):
        sentences = _sentences(draw, draw.weighted(OTHER_KINDS))
        yield {name: language.text(sentences) for name, language in LANGUAGES.items()}


TRAINING_DOCUMENTS = 200_000


def training_documents():
    return documents("training", TRAINING_DOCUMENTS)
