"""F6 and F7: widths of activation histograms, and channel means, from the arrays of activation studies.

All statistics are of module outputs over all positions. A calibration set is one observation: models are compared on
the sets that both have studies of, and intervals are t intervals over sets.
"""

import itertools
import math

import numpy as np

from report.stats import Effect, mean_effect
from report.verdicts import Claim, Part, Row, judge

LEAST_LANGUAGES = 4  # for a jackknife over them
MODULES = {"o": "attention output", "down": "last MLP linear"}


class Studies:
    """Numbers of every study that is there: [model][set][module] -> dictionary of floats and top channels. `planned`:
    the models that the grid has studies of, with the sets."""

    def __init__(self, results, models):
        self.numbers = {}
        self.planned = {}
        for cell in results.cells:
            if cell.method == "activations" and cell.model in models:
                self.planned.setdefault(cell.model, set()).add(cell.set)
        for model in models:
            for set_name in results.grid.sets:
                cell = results.study(model, set_name)
                if cell:
                    self.numbers.setdefault(model, {})[set_name] = {
                        module: of_module(cell, results.study_arrays(cell), module) for module in MODULES
                    }

    def common(self, first, second):
        """Sets of which both models have a study."""
        return [s for s in self.numbers.get(first, {}) if s in self.numbers.get(second, {})]

    def log_ratio(self, first, second, module, key):
        """Effect: mean over common sets of log(first / second); None without a common set."""
        sets = self.common(first, second)
        values = [math.log(self.numbers[first][s][module][key] / self.numbers[second][s][module][key]) for s in sets]
        return mean_effect(values, f"{len(sets)} sets") if values else None

    def overlap(self, model, module, sets):
        """[pairs of sets]: Jaccard overlap of the top channels, mean over layers."""
        tops = [self.numbers[model][s][module]["top"] for s in sets]
        return {
            (i, j): float(np.mean([len(a & b) / len(a | b) for a, b in zip(tops[i], tops[j])]))
            for i, j in itertools.combinations(range(len(sets)), 2)
        }


def of_module(cell, arrays, module):
    """outside: share of values beyond the histogram's range; width: of the central 99 %, mean over layers in log;
    largest: of |channel mean| anywhere; top: per layer the 1 % of channels with the largest |mean|; outliers: channels
    whose |mean| is above 6 standard deviations in some layer."""
    means = np.abs(arrays[f"{module}.mean"])
    kept = max(1, math.ceil(means.shape[1] / 100))
    order = np.argsort(-means, axis=1, kind="stable")[:, :kept]
    spread = arrays[f"{module}.mean"].std(axis=1, keepdims=True)
    counts = arrays[f"{module}.counts"]
    return {
        "outside": float((counts[:, 0] + counts[:, -1]).sum() / counts.sum()),
        "width": cell.study["summary"][module]["whole"]["central_99_width"],
        "largest": float(means.max()),
        "layer": int(means.max(axis=1).argmax()),
        "layers": means.shape[0],
        "top": [set(map(int, row)) for row in order],
        "outliers": int((means > 6 * np.where(spread > 0, spread, np.inf)).any(axis=0).sum()),
    }


def rows_of_ratio(studies, options, pairs, key, what):
    """The first of each pair is larger."""
    rows = []
    for module, title in MODULES.items():
        for first, second in pairs:
            rows.append(
                Row(
                    f"{first} / {second}",
                    title,
                    f"{len(studies.common(first, second))} sets",
                    what,
                    "ratio",
                    "harm",
                    studies.log_ratio(first, second, module, key),
                    margin=math.log1p(options.width_margin),
                    confidence=options.confidence,
                )
            )
    judge(rows)
    return rows


def against_narrowest(studies, options):
    """(model, narrowest) for all other models that the grid has studies of."""
    narrowest = options.narrowest
    return [(m, narrowest) for m in studies.planned if m != narrowest] if narrowest in studies.planned else []


def width_claim(studies, options):
    ordered = [m for m in options.spread_order if m in studies.planned]
    pairs = list(zip(ordered, ordered[1:]))
    what = "width of the central 99 %"
    claim = Claim(
        "F6",
        "The spread of activations narrows from the old model to the newest; one modern model is the narrowest.",
        [
            Part(
                "each model wider than the next",
                "each wider than the next",
                rows_of_ratio(studies, options, pairs, "width", what),
            ),
            Part(
                f"{options.narrowest} the narrowest",
                f"{options.narrowest} the narrowest",
                rows_of_ratio(studies, options, against_narrowest(studies, options), "width", what),
            ),
        ],
    )
    claim.remarks.append(
        "Widths depend on the scale of a model's residual stream, which training does not fix; the paper "
        "compares them as they are, and so does this page."
    )
    return claim


def language_rows(studies, options):
    """Old models' top channels change more with the language than modern ones': difference of mean overlaps, standard
    error by jackknife over languages (pairs that share a language are not independent)."""
    rows = []
    for module, title in MODULES.items():
        for old, modern in itertools.product(options.old, options.modern):
            planned = studies.planned.get(old, set()) & studies.planned.get(modern, set()) & set(options.languages)
            if len(planned) < LEAST_LANGUAGES:
                continue
            sets = [s for s in studies.common(old, modern) if s in options.languages]
            effect = None
            if len(sets) >= LEAST_LANGUAGES:
                mine, other = (studies.overlap(m, module, sets) for m in (old, modern))
                effect = jackknife({p: other[p] - mine[p] for p in mine}, len(sets))
            rows.append(
                Row(
                    f"{old}, {modern}",
                    title,
                    f"{len(sets)} languages",
                    "overlap of top channels",
                    "plain",
                    "harm",
                    effect,
                    margin=options.width_margin,
                    confidence=options.confidence,
                )
            )
    judge(rows)
    return rows


def jackknife(pairs, units):
    """Effect from values of pairs (i, j) of `units` units: the mean, with the leave-one-unit-out standard error."""
    left_out = np.array([np.mean([v for p, v in pairs.items() if i not in p]) for i in range(units)])
    se = math.sqrt((units - 1) / units * float(((left_out - left_out.mean()) ** 2).sum()))
    values = np.array(list(pairs.values()))
    return Effect(float(values.mean()), se, units - 1, (values,), True, (f"jackknife over {units} languages",))


def pattern_claim(studies, options):
    large = [(old, m) for old in options.old for m in options.modern if old in studies.planned and m in studies.planned]
    what = "largest |channel mean|"
    return Claim(
        "F7",
        "Outlier patterns look alike in all models; the old model has the largest channel means, and its "
        "pattern depends on the language; one modern model has the smallest.",
        [
            Part(
                "old models have the largest channel means",
                "largest channel means",
                rows_of_ratio(studies, options, large, "largest", what),
            ),
            Part(
                "old models' top channels change more with the language",
                "change with the language",
                language_rows(studies, options),
            ),
            Part(
                f"{options.narrowest} has the smallest channel means",
                "smallest channel means",
                rows_of_ratio(studies, options, against_narrowest(studies, options), "largest", what),
            ),
        ],
    )


def activation_claims(results, options):
    """(claims, studies)"""
    studies = Studies(results, options.old + options.modern)
    return [width_claim(studies, options), pattern_claim(studies, options)], studies
