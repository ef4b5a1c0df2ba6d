"""Comparisons of results as rows with verdicts, for all claims."""

import math

from report.stats import compare
from report.verdicts import Part, Row, judge


class Judge:
    """Makes rows of comparisons, and parts of rows."""

    def __init__(self, measures, options):
        self.measures, self.options, self.results = measures, options, measures.results
        self.margins = {True: math.log1p(options.perplexity_margin), False: options.accuracy_margin}

    def row(self, model, method, subject, measure, kind, effect, family="", note="", floor=0.0):
        """`effect` in natural direction, or None."""
        return Row(
            model,
            method,
            subject,
            measure.title,
            "ratio" if measure.perplexity else "points",
            kind,
            effect and measure.harm(effect),
            1.0 if measure.perplexity else -1.0,
            self.margins[measure.perplexity],
            floor,
            self.options.confidence,
            family,
            note=note,
        )

    def against(self, model, method, set_name, measure, kind, reference, family=""):
        """Row of a set (None: a method without calibration) against `reference`, a (method, set) of the same model.
        None if the grid has no such cells, or not this metric."""
        r = self.results
        if method is None or not (r.planned(model, method, set_name) and r.planned(model, *reference)):
            return None
        a, b = (self.measures.sample(model, *cell, measure) for cell in ((method, set_name), reference))
        if a and b:
            terms = [(1.0, method, set_name, len(a.draws)), (-1.0, *reference, len(b.draws))]
            return self.row(
                model,
                method,
                self.versus(set_name, reference, method),
                measure,
                kind,
                compare(a, b),
                family,
                floor=self.measures.noise.floor(model, measure, terms),
            )
        finished = [r.done(model, *cell) for cell in ((method, set_name), reference)]
        if all(finished):
            return None  # computed, but the grid does not ask for this metric there
        return self.row(model, method, self.versus(set_name, reference, method), measure, kind, None)

    def versus(self, set_name, reference, method):
        against = reference[1] if reference[0] == method else reference[0]
        return f"{self.options.label(set_name)} / {self.options.label(against)}" if set_name else f"/ {against}"

    def part(self, title, group, rows, measure=None):
        """Part of those rows that are not None. `measure`: where a group has a part for each measure."""
        rows = [r for r in rows if r is not None]
        judge(rows)
        short = "" if measure is None else "perplexity" if measure.perplexity else "accuracy"
        return Part(title + (f": {measure.title}" if measure else ""), group, rows, measure=short)

    def quality(self, title, group, kind, models, methods, sets, families=False, measures=None):
        """One part a measure (of perplexity and the mean accuracy): sets against the baseline."""
        parts = []
        for measure in measures or self.measures.both():
            rows = [
                self.against(
                    model,
                    method,
                    s,
                    measure,
                    kind,
                    (method, self.options.baseline),
                    f"{model}/{method}/{measure.title}" if families and s in self.options.languages else "",
                )
                for model in models
                for method in methods
                for s in sets
                if s != self.options.baseline
            ]
            parts.append(self.part(title, group, rows, measure))
        return parts
