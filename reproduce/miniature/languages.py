"""The languages of the miniature world.

A sentence is a dictionary from constituent to noun phrase: C condition, S subject, V verb, O object, W partner, P
place, T time, and B, a because-clause that is a sentence itself. A noun phrase is a tuple of concepts, adjectives
first. A language turns sentences into text with its own words, order of constituents, punctuation and case suffix."""
from chance import Draw
from facts import CONCEPTS, COUNTABLE


class Language:
    """English uses the concepts themselves and "the" before what can be counted; the other languages have words of
    made-up syllables, an onset and a vowel each."""

    def __init__(self, name, order, stop, because, onsets="", vowels="", syllables=(1, 2, 3), object_suffix="",
                 gap=" "):
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
SHARES = [("en", 60), ("ru", 10), ("el", 8), ("ar", 8), ("hi", 7), ("zh", 7)]
