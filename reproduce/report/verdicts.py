"""Comparisons, their verdicts, and how verdicts of many comparisons make the verdict of a claim.

A comparison is an effect judged in one of three ways. With M the margin, F the noise floor, all in the direction of
harm (log perplexity up, accuracy down):

    no effect   supported: the effect is shown to be within -M and M (two one-sided tests at 5 %: the 90 % interval is
                inside). contradicted: it is shown to be beyond M and beyond F (the 95 % interval is outside)
    no gain     supported: a gain of M is excluded (one-sided, 5 %). contradicted: a gain beyond M and F is shown
    harm        supported: harm beyond M and F is shown. contradicted: harm of M is excluded (one-sided, 5 %)

Everything else is undecided; so is a comparison of single draws if nothing is known about the spread between draws.
"""

import dataclasses
import math

from report.stats import holm

SUPPORTED, CONTRADICTED, UNDECIDED, NO_DATA = "supported", "contradicted", "undecided", "no data"
UNTESTED = "not in this grid"
IN_PART = "supported in part"  # of a claim: all that the grid tests, but it does not test all of the claim


@dataclasses.dataclass
class Row:
    """One comparison. Effects are natural: log ratios of perplexity, differences of accuracy."""

    model: str
    method: str
    subject: str  # what is compared: a set, a pair
    measure: str
    scale: str  # "ratio": exp of the effect is shown; "points": 100 times; "share": per cent; "plain"
    kind: str  # no effect, no gain, harm
    effect: object = None  # stats.Effect in the direction of harm, None without data
    sign: float = 1.0  # natural effect = sign * effect
    margin: float = 0.0
    floor: float = 0.0
    confidence: float = 0.95
    family: str = ""  # rows of one family share Holm's correction
    p_beyond: float = math.nan
    p_difference: float = math.nan  # of no effect at all, two-sided; Holm-adjusted within the family
    verdict: str = NO_DATA
    note: str = ""
    shown: tuple = None  # (value, low, high) where the effect tested is not the number to show

    def interval(self, confidence=None):
        """In natural direction."""
        if self.shown:
            return self.shown[1:]
        low, high = self.effect.interval(confidence or self.confidence)
        return (low, high) if self.sign > 0 else (-high, -low)

    def bootstrap(self):
        low, high = self.effect.bootstrap(self.confidence)
        return (low, high) if self.sign > 0 else (-high, -low)

    def value(self):
        return self.shown[0] if self.shown else self.sign * self.effect.estimate


def judge(rows):
    """Sets p values and verdicts; rows of one family (if named) are corrected for each other."""
    families = {}
    for row in rows:
        if row.effect is None:
            continue
        bound = max(row.margin, row.floor)
        e = row.effect
        row.p_beyond = {
            "no effect": min(1.0, min(e.p_above(bound), e.p_below(-bound))),
            "no gain": e.p_below(-bound),
            "harm": e.p_above(bound),
        }[row.kind]
        row.p_difference = e.p_difference()
        if row.family:
            families.setdefault(row.family, []).append(row)
    for family in families.values():
        for row, beyond, different in zip(
            family, holm([r.p_beyond for r in family]), holm([r.p_difference for r in family])
        ):
            row.p_beyond, row.p_difference = beyond, different
    for row in rows:
        if row.effect is not None:
            row.verdict = decide(row)
            row.note = "; ".join(filter(None, [row.note, *row.effect.notes]))


def decide(row):
    """The verdict of a row whose p values are set."""
    if not row.effect.known:
        return UNDECIDED
    alpha = 1 - row.confidence
    e = row.effect
    within = {
        "no effect": e.p_equivalence(row.margin),
        "no gain": e.p_above(-row.margin),
        "harm": e.p_below(row.margin),
    }[row.kind] <= alpha
    beyond = row.p_beyond <= alpha / 2
    if within == beyond:
        return UNDECIDED
    return SUPPORTED if within != (row.kind == "harm") else CONTRADICTED


@dataclasses.dataclass
class Part:
    """Comparisons that stand for one sentence of a claim. Parts of one group say the same thing in different measures:
    all have to hold if it denies an effect, one is enough if it asserts one. The summary calls a part by its group and
    measure."""

    title: str
    group: str
    rows: list
    verdict: str = ""
    note: str = ""
    measure: str = ""

    def __post_init__(self):
        if not self.verdict:
            self.verdict = combine([r.verdict for r in self.rows])

    def of_model(self, model):
        """The verdict of this part's comparisons of one model."""
        return combine([r.verdict for r in self.rows if r.model == model])

    def asserts(self):
        return any(r.kind == "harm" for r in self.rows)

    def counts(self):
        return {v: sum(r.verdict == v for r in self.rows) for v in (SUPPORTED, CONTRADICTED, UNDECIDED, NO_DATA)}


@dataclasses.dataclass
class Claim:
    id: str
    text: str
    parts: list
    further: list = dataclasses.field(default_factory=list)  # parts that decide nothing
    verdict: str = ""
    remarks: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        groups = {}
        for part in self.parts:
            groups.setdefault(part.group, []).append(part)
        verdicts = [of_group(parts) for parts in groups.values()]
        self.verdict = combine(verdicts)
        if self.verdict == SUPPORTED and UNTESTED in verdicts:
            self.verdict = IN_PART


def of_group(parts):
    verdicts = [p.verdict for p in parts if p.verdict != UNTESTED]
    if not any(p.asserts() for p in parts) or not verdicts:
        return combine(verdicts or [UNTESTED])
    if SUPPORTED in verdicts:
        return SUPPORTED
    return verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED


def combine(verdicts):
    """All have to hold: contradicted by one that is contradicted, supported if all are; what the grid does not have is
    left out, what it has but could not be computed leaves the rest undecided."""
    verdicts = [v for v in verdicts if v != UNTESTED]
    if not verdicts:
        return UNTESTED
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if set(verdicts) == {SUPPORTED}:
        return SUPPORTED
    return NO_DATA if set(verdicts) == {NO_DATA} else UNDECIDED
