"""How far results differ by what should not matter: the draw of the calibration text, the order of its windows, and
perturbations as small as rounding. Every source gives a standard deviation for a set of one model and method; where it
was not measured, it is pooled over the sets that [report] names in spread_sets (default: all)."""

import math

import numpy as np

from report.stats import Spread

SOURCES = ("draws", "order", "perturbation")


class Noise:
    def __init__(self, measures):
        self.measures, self.options = measures, measures.options
        self.results, self.grid = measures.results, measures.results.grid
        self._tables, self._spreads = {}, {}

    def table(self, model, method, measure):
        """Source -> set -> (sum of squared deviations, degrees of freedom), where there are any."""
        key = model, method, measure.metrics
        if key not in self._tables:
            self._tables[key] = {
                "draws": self.between_draws(model, method, measure),
                "order": self.between_orders(model, method, measure),
                "perturbation": self.by_perturbation(model, method, measure),
            }
        return self._tables[key]

    def between_draws(self, model, method, measure):
        found = {}
        for set_name in self.results.sets_of(model, method):
            sample = self.measures.raw(model, method, set_name, measure)
            if sample and len(sample.draws) > 1 and set_name not in self.measures.permuted:
                found[set_name] = deviations(sample.values())
        return found

    def between_orders(self, model, method, measure):
        """Between cells whose windows are the same in another order; under the name of the set in its own order."""
        same = {}
        for set_name in self.results.sets_of(model, method):
            sample = self.measures.raw(model, method, set_name, measure)
            for draw, value in zip(sample.draws, sample.values()) if sample else ():
                about = self.grid.draws[set_name, draw]
                windows = {k: v for k, v in about.items() if k not in ("name", "group", "draw", "order")}
                names, values = same.setdefault(repr(sorted(windows.items())), ([], []))
                names.append((set_name in self.measures.permuted, set_name))
                values.append(value)
        return {min(names)[1]: deviations(values) for names, values in same.values() if len(values) > 1}

    def by_perturbation(self, model, method, measure):
        found = {}
        for other in self.options.perturbed.get(method, []):
            for set_name in self.results.sets_of(model, other):
                a, b = (self.measures.raw(model, m, set_name, measure) for m in (method, other))
                if a and b and set(a.draws) & set(b.draws):
                    differences = a.minus(b).values()  # of two results with the same variance each
                    found[set_name] = float((differences**2).sum() / 2), len(differences)
        return found

    def sd(self, model, method, measure, source, set_name):
        """Standard deviation of one result; 0 if nothing is known."""
        table = self.table(model, method, measure)[source]
        if set_name in table:
            return pooled([table[set_name]])[0]
        found = pooled(self.chosen(table))
        if found is None and source == "draws":
            spread = self.spread(model, method, measure)
            return spread.sd if spread else 0.0
        return found[0] if found else 0.0

    def chosen(self, table):
        """Entries of the sets that speak for others."""
        return [entry for name, entry in table.items() if name in (self.options.spread_sets or table)]

    def spread(self, model, method, measure):
        """Between draws of a set that has too few: pooled over sets, else over other models, else assumed, else
        None."""
        key = model, method, measure.metrics
        if key not in self._spreads:
            self._spreads[key] = self.find_spread(model, method, measure)
        return self._spreads[key]

    def find_spread(self, model, method, measure):
        if self.measures.fixed(method):
            return None
        own = pooled(self.chosen(self.table(model, method, measure)["draws"]))
        if own:
            return Spread(*own, f"spread of the draws of {method}'s other sets")
        others = [m for m, about in self.grid.models.items() if m != model and "inject" not in about]
        found = pooled([e for m in others for e in self.chosen(self.table(m, method, measure)["draws"])])
        if found:
            return Spread(*found, f"spread of {method}'s draws on other models")
        assumed = self.options.draw_spread.get("perplexity" if measure.perplexity else "accuracy")
        return Spread(assumed, math.inf, "spread assumed in the grid file") if assumed else None

    def floor(self, model, measure, terms):
        """The difference that noise alone exceeds in 5 % of cases, of a sum of [(weight, method, set, draws)]: 1.96
        standard deviations by the source that does most."""
        worst = 0.0
        for source in SOURCES:
            variance = sum(
                (weight * self.sd(model, method, measure, source, set_name)) ** 2 / draws
                for weight, method, set_name, draws in terms
                if not self.measures.fixed(method)
            )
            worst = max(worst, variance)
        return 1.96 * math.sqrt(worst)


def deviations(values):
    """(sum of squared deviations from the mean, degrees of freedom)"""
    return float(np.var(values) * len(values)), len(values) - 1


def pooled(entries):
    """(standard deviation, degrees of freedom) of (squares, df) entries; None without any."""
    df = sum(n for _, n in entries)
    return (math.sqrt(sum(s for s, _ in entries) / df), df) if df else None
