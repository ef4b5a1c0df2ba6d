"""Estimates, intervals and tests. Nothing here knows of models or files.

A Sample holds outcomes of one measure: for each of its metrics an array [draws, items]. Perplexity has one metric,
whose items are windows and whose outcomes are mean losses in nats; a mean accuracy has one metric a task, whose items
are questions and whose outcomes are 0 or 1. Every sample of a measure has the same items in the same order, so all
differences are paired by item. A draw is one random choice of calibration text.
"""

import dataclasses
import functools
import math

import numpy as np
import scipy.stats

RESAMPLES = 2000
ENOUGH_DRAWS = 3  # for a variance of their own; fewer have a t distribution whose intervals span everything
BOOTSTRAP_SEED = 240520835


@dataclasses.dataclass(frozen=True)
class Spread:
    """A standard deviation between draws that was measured (with degrees of freedom) or assumed (df = inf)."""

    sd: float
    df: float
    source: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """Outcomes: a tuple of arrays [draws, items of a metric]."""

    outcomes: tuple
    draws: tuple = (1,)
    fixed: bool = False  # nothing random went into it: no variance between draws
    spread: Spread = None  # between draws, from elsewhere: where there are not enough of its own

    def values(self):
        """[draws]: mean over metrics of the mean over items."""
        return np.mean([block.mean(axis=1) for block in self.outcomes], axis=0)

    def mean(self):
        return float(self.values().mean())

    def standard_error(self):
        """Over items alone, unpaired: what a harness prints, with the mean over draws as outcome of an item."""
        blocks = [block.mean(axis=0) for block in self.outcomes]
        return math.sqrt(sum(b.var(ddof=1) / len(b) for b in blocks)) / len(blocks)

    def minus(self, other):
        """The difference draw by draw, for treatments that share their calibration draws."""
        common = tuple(d for d in self.draws if d in other.draws)
        if not common:
            raise ValueError("samples have no draw in common")
        mine, theirs = ([s.draws.index(d) for d in common] for s in (self, other))
        return Sample(
            tuple(a[mine] - b[theirs] for a, b in zip(self.outcomes, other.outcomes)),
            common,
            self.fixed and other.fixed,
            max(filter(None, (self.spread, other.spread)), key=lambda s: s.sd, default=None),
        )

    def only(self, draws):
        """The same with those of these draws that are there; None without one."""
        kept = [i for i, d in enumerate(self.draws) if d in draws]
        if not kept:
            return None
        return dataclasses.replace(
            self, outcomes=tuple(b[kept] for b in self.outcomes), draws=tuple(self.draws[i] for i in kept)
        )

    def times(self, factor):
        spread = self.spread and dataclasses.replace(self.spread, sd=abs(factor) * self.spread.sd)
        return Sample(tuple(factor * b for b in self.outcomes), self.draws, self.fixed, spread)


@dataclasses.dataclass(frozen=True)
class Effect:
    """A linear combination of sample means, with its standard error and Welch-Satterthwaite degrees of freedom."""

    estimate: float
    se: float
    df: float
    blocks: tuple  # the paired outcomes that it is the mean of, one array [items] a metric
    known: bool = True  # False: the variance between draws is missing from `se`
    notes: tuple = ()
    mcnemar: float = None  # exact p, two single draws of one task

    def item_se(self):
        """The part of `se` that comes from the items alone."""
        return math.sqrt(sum(b.var(ddof=1) / len(b) for b in self.blocks)) / len(self.blocks)

    def bootstrap(self, confidence):
        """Percentile interval over items alone."""
        means = np.mean([resamples(len(b)) @ b for b in self.blocks], axis=0)
        tail = 50 * (1 - confidence)
        return float(np.percentile(means, tail)), float(np.percentile(means, 100 - tail))

    def interval(self, confidence):
        half = t_quantile((1 + confidence) / 2, self.df) * self.se
        return self.estimate - half, self.estimate + half

    def p_above(self, bound):
        """One-sided p of the hypothesis that the effect is at most `bound`."""
        return upper_p(self.estimate - bound, self.se, self.df)

    def p_below(self, bound):
        return upper_p(bound - self.estimate, self.se, self.df)

    def p_difference(self):
        """Two-sided p of no effect."""
        return min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0))) if self.se or self.estimate else 1.0

    def p_equivalence(self, margin):
        """Two one-sided tests: p of the hypothesis that the effect is not between -margin and margin."""
        return max(self.p_above(-margin), self.p_below(margin))


def t_quantile(probability, df):
    return float(scipy.stats.norm.ppf(probability) if math.isinf(df) else scipy.stats.t.ppf(probability, df))


def upper_p(distance, se, df):
    """P(T >= distance / se); without any spread a distance of 0 decides nothing and any other everything."""
    if se == 0.0:
        return 0.5 if distance == 0.0 else float(distance < 0)
    return float(scipy.stats.norm.sf(distance / se) if math.isinf(df) else scipy.stats.t.sf(distance / se, df))


def welch_satterthwaite(components):
    """Degrees of freedom of a sum of variances, from (variance, df) pairs."""
    total = sum(v for v, _ in components)
    below = sum(v * v / df for v, df in components if v > 0)
    return total * total / below if below > 0 else math.inf


@functools.lru_cache(maxsize=None)
def resamples(items):
    """[RESAMPLES, items]: weights of bootstrap samples, the same for all comparisons."""
    rng = np.random.default_rng([BOOTSTRAP_SEED, items])
    return rng.multinomial(items, np.full(items, 1.0 / items), size=RESAMPLES) / items


def contrast(terms):
    """Effect of [(weight, Sample)]: sum of weighted means. Variance: of the paired per-item combinations, plus
    weight^2 * (variance between draws) / draws of each sample. The first counts the part of the second that differs
    from item to item again, so that intervals are a little too wide, never too narrow."""
    metrics = len(terms[0][1].outcomes)
    combined = [sum(w * s.outcomes[k].mean(axis=0) for w, s in terms) for k in range(metrics)]
    components = [(c.var(ddof=1) / len(c) / metrics**2, len(c) - 1) for c in combined]
    known, notes = True, []
    for weight, sample in terms:
        draws = len(sample.draws)
        if sample.fixed:
            continue
        if sample.spread is not None and draws < ENOUGH_DRAWS:
            components.append((weight**2 * sample.spread.sd**2 / draws, sample.spread.df))
            notes.append(f"{('one draw', 'two draws')[draws - 1]}: {sample.spread.source}")
        elif draws > 1:
            components.append((weight**2 * sample.values().var(ddof=1) / draws, draws - 1))
        else:
            known = False
            notes.append("one draw, and no spread between draws known")
    return Effect(
        float(np.mean([c.mean() for c in combined])),
        math.sqrt(sum(v for v, _ in components)),
        welch_satterthwaite(components),
        tuple(combined),
        known,
        tuple(dict.fromkeys(notes)),
        mcnemar(*(s for _, s in terms)) if len(terms) == 2 else None,
    )


def compare(a, b):
    """Effect of a minus b: a log ratio of perplexities, or a difference of accuracies."""
    return contrast([(1.0, a), (-1.0, b)])


def difference(a, b):
    """Effect a minus effect b, of different models: not paired."""
    return Effect(
        a.estimate - b.estimate,
        math.hypot(a.se, b.se),
        welch_satterthwaite([(a.se**2, a.df), (b.se**2, b.df)]),
        (),
        a.known and b.known,
        tuple(dict.fromkeys(a.notes + b.notes)),
    )


def mcnemar(a, b):
    """Exact two-sided p from the discordant items of two single draws of one task; None where that is not the case."""
    if any(len(s.draws) != 1 or len(s.outcomes) != 1 or not np.isin(s.outcomes[0], (0.0, 1.0)).all() for s in (a, b)):
        return None
    difference = a.outcomes[0][0] - b.outcomes[0][0]
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    return scipy.stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0


def holm(p_values):
    """Adjusted p values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def mean_effect(values, note):
    """Effect from independent values, one for each unit (a training seed, a calibration set): t interval over units."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Effect(float(values.mean()), 0.0, math.inf, (), False, (note, "one value only"))
    return Effect(
        float(values.mean()),
        float(values.std(ddof=1) / math.sqrt(len(values))),
        len(values) - 1,
        (values,),
        True,
        (note,),
    )


def share_interval(whole, rest, confidence):
    """(share, low, high) of share = 1 - rest / whole: how much of a contrast goes away. Both are lists of terms whose
    samples match one by one and share their draws. Fieller's interval: every share s for which the contrast
    (1 - s) * whole - rest may be 0. Infinite where `whole` itself may be 0; looked for between -2 and 3."""
    effect = contrast(whole)
    share = 1.0 - contrast(rest).estimate / effect.estimate if effect.estimate else math.nan
    if not excludes_zero(effect, confidence):
        return share, -math.inf, math.inf
    kept = [
        s
        for s in [*np.linspace(-2.0, 3.0, 1001), share]
        if not excludes_zero(
            contrast([(w, a.times(1.0 - s).minus(b)) for (w, a), (_, b) in zip(whole, rest)]), confidence
        )
    ]
    return share, float(min(kept)), float(max(kept))


def excludes_zero(effect, confidence):
    low, high = effect.interval(confidence)
    return low > 0.0 or high < 0.0
