"""Twins: the same functions with injected outliers, compared with the models that they were made from.

"Harm of outliers" is a treatment of the twin against the same treatment of the clean model. An injection seed chooses the
channels: twins that differ in the seed alone are taken together, with seeds as draws. Too few of them are judged one by
one, by windows alone, which says nothing about other channels.
"""

import dataclasses

import numpy as np

from report.stats import ENOUGH_DRAWS, Sample, contrast
from report.verdicts import Claim

CONTROL_NOTE = "control"


@dataclasses.dataclass(frozen=True)
class Twin:
    """Models that differ only in the seed of injection. `seed`: of one of them that is judged as it is."""

    of: str
    names: tuple
    places: tuple
    channels: int
    scale: float
    offset: float
    seed: int = None

    def title(self):
        what = f"offset {self.offset:g}" if self.offset else f"gain x{self.scale:g}"
        which = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.of}, {self.channels} channels, {what} at {'/'.join(self.places)}{which}"

    def additive(self):
        return self.offset != 0.0

    def at_norms_only(self):
        return self.places == ("norm",)


def twins_of(grid):
    groups = {}
    for name, about in grid.models.items():
        inject = about.get("inject")
        if inject:
            key = (about["of"], tuple(inject["at"]), inject["channels"], inject["scale"], inject["offset"])
            groups.setdefault(key, []).append(name)
    return [
        Twin(of, tuple(names), places, channels, scale, offset)
        for (of, places, channels, scale, offset), names in groups.items()
    ]


class Twins:
    def __init__(self, judge):
        self.judge, self.options, self.measures = judge, judge.options, judge.measures
        self.all = twins_of(judge.results.grid)
        self.full = judge.options.methods["full_precision"]

    def sample(self, twin, method, set_name, measure):
        """[injection seeds] as draws, each the mean over its calibration draws; None without results."""
        found = {i + 1: self.measures.sample(name, method, set_name, measure) for i, name in enumerate(twin.names)}
        found = {i: s for i, s in found.items() if s}
        if not found:
            return None
        blocks = zip(*([b.mean(axis=0) for b in s.outcomes] for s in found.values()))
        return Sample(tuple(np.stack(b) for b in blocks), tuple(found), fixed=twin.seed is not None)

    def units(self, twins):
        """The twins as they are judged: those with too few seeds one by one."""
        models = self.judge.results.grid.models
        units = []
        for twin in twins:
            if len(twin.names) >= ENOUGH_DRAWS:
                units.append(twin)
            else:
                units += [
                    dataclasses.replace(twin, names=(name,), seed=models[name]["inject"]["seed"]) for name in twin.names
                ]
        return units

    def clean(self, twin, method, set_name, measure):
        """The same treatment of the clean model; removed columns are compared with full precision."""
        removed = method == self.options.methods["removal"]
        return self.measures.sample(twin.of, self.full if removed else method, set_name, measure)

    def planned(self, twin, method, set_name):
        return any(self.judge.results.planned(n, method, set_name) for n in twin.names)

    def sets(self, twin, method):
        """The sets that the twin is calibrated on; [None] for methods without calibration."""
        if method is None:
            return []
        if self.planned(twin, method, None):
            return [None]
        return [s for s in self.judge.results.grid.sets if self.planned(twin, method, s)]

    def harm(self, twin, method, set_name, measure, kind, note=""):
        """Row: harm of outliers under a treatment; None if the grid does not have it. Both models are calibrated on the
        same draws, whose choice then adds no variance."""
        if not self.planned(twin, method, set_name):
            return None
        a, b = self.sample(twin, method, set_name, measure), self.clean(twin, method, set_name, measure)
        if b and set_name:
            drawn = [c.draw for n in twin.names for c in self.judge.results.done(n, method, set_name)]
            b = b.only(drawn)
            b = b and dataclasses.replace(b, fixed=True)
        if not (a and b) and any(self.judge.results.done(n, method, set_name) for n in twin.names):
            return None
        return self.row(
            twin,
            method,
            f"twin / clean, {self.options.label(set_name)}" if set_name else "twin / clean",
            measure,
            kind,
            contrast([(1.0, a), (-1.0, b)]) if a and b else None,
            note,
        )

    def row(self, twin, method, subject, measure, kind, effect, note=""):
        """Of a twin's noise nothing is known but its own draws, which are in the interval: no floor."""
        return self.judge.row(twin.title(), method, subject, measure, kind, effect, note=note)

    def dependence(self, twin, method, set_name, measure, kind):
        """Row: how much more a set differs from the baseline on the twin than on the clean model."""
        base = self.options.baseline
        if not (self.planned(twin, method, set_name) and self.planned(twin, method, base)):
            return None
        twin_cells = [self.sample(twin, method, s, measure) for s in (set_name, base)]
        clean_cells = [self.clean(twin, method, s, measure) for s in (set_name, base)]
        effect = None
        if all(twin_cells) and all(clean_cells):
            effect = contrast(
                [(1.0, twin_cells[0].minus(twin_cells[1])), (-1.0, clean_cells[0]), (1.0, clean_cells[1])]
            )
        elif any(self.judge.results.done(n, method, set_name) for n in twin.names):
            return None
        label = self.options.label(set_name)
        return self.row(twin, method, f"({label} / {base}), twin / clean", measure, kind, effect)


def causal_claims(judge):
    """([Claim], Twins). Judged by perplexity; what the paper's grid lacks is left out."""
    t = Twins(judge)
    o, measure = judge.options, judge.measures.perplexity
    if not t.all or measure is None:
        return [], t
    naive, smooth = o.methods["naive"], o.methods["smoothquant"]
    gains = [x for x in t.all if not x.additive()]
    offsets = [x for x in t.all if x.additive()]
    at_norms = [x for x in gains if x.at_norms_only()]
    elsewhere = [x for x in gains if not x.at_norms_only()]

    def smoothed(twins, kind):
        return [t.harm(x, smooth, s, measure, kind) for x in t.units(twins) for s in t.sets(x, smooth)]

    gain = Claim(
        "C1",
        "Outlier channels made by gains break naive W8A8; SmoothQuant repairs them at the norms, and cannot "
        "between up and down.",
        [
            judge.part(
                "naive W8A8 is harmed", "naive W8A8", [t.harm(x, naive, None, measure, "harm") for x in t.units(gains)]
            ),
            judge.part(
                "SmoothQuant undoes gains at norms (an identity: a test of the code, no evidence)",
                "SmoothQuant at norms",
                smoothed(at_norms, "no effect"),
            ),
            judge.part("SmoothQuant cannot undo gains elsewhere", "SmoothQuant elsewhere", smoothed(elsewhere, "harm")),
        ],
        weight_only(judge, t, gains, measure),
    )
    methods = [m for pair in o.dead_pairs for m in pair] or [m for m in (o.methods["gptq"], o.methods["awq"]) if m]
    sets = [s for s in [o.nonsense, *o.content, *o.languages] if s]

    def dependence(twins, kind, over):
        return [t.dependence(x, m, s, measure, kind) for x in twins for m in methods for s in over]

    matters = Claim(
        "C2",
        "Outliers of constant sign (offsets in the norms' biases) make the content of calibration matter.",
        [
            judge.part(
                "nonsense harms more with offsets than without",
                "nonsense, with offsets against without",
                dependence(offsets, "harm", sets[:1]),
            )
        ],
        [
            judge.part("other sets harm more with offsets than without", "sets", dependence(offsets, "harm", sets[1:])),
            judge.part(
                "nonsense harms no more with gains than without", "gains", dependence(gains, "no effect", sets[:1])
            ),
        ]
        + weight_only(judge, t, offsets, measure),
    )
    return [gain, matters], t


def weight_only(judge, t, twins, measure):
    """Rounding, GPTQ and AWQ on twins, beside the control: the injected columns removed, nothing quantized."""
    o = judge.options
    parts = []
    for x in twins:
        rows = [t.harm(x, o.methods["removal"], None, measure, "harm", CONTROL_NOTE)]
        rows += [
            t.harm(x, m, s, measure, "harm")
            for role in ("naive", "rtn", "gptq", "awq", "smoothquant")
            for m in [o.methods[role]]
            for s in t.sets(x, m)
        ]
        parts.append(judge.part(f"{x.title()}: harm of outliers by method", "methods", rows))
    return parts
