"""Samples of a grid's results, with what is known about the spread between calibration draws."""
import dataclasses
import math

import numpy as np

from report.stats import Sample, Spread, compare
from report.store import StoreError

UNCALIBRATED = ("full-precision", "rtn", "w8a8", "remove-injected")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A perplexity, or the mean of some accuracies."""
    title: str
    metrics: tuple
    perplexity: bool

    def harm(self, effect):
        """The same effect, positive where things get worse."""
        return effect if self.perplexity else dataclasses.replace(
            effect, estimate=-effect.estimate, blocks=tuple(-b for b in effect.blocks))


class Measures:
    """All samples of a grid: `sample(...)`, and `floor(...)`, below which no difference may be called an effect."""

    def __init__(self, results, options):
        self.results, self.options, self.grid = results, options, results.grid
        self._samples, self._spreads, self._noise = {}, {}, {}
        self.perplexity = Measure("perplexity", (options.perplexity,), True) if options.perplexity else None
        self.tasks = {t: Measure(f"{t} accuracy", (t,), False) for t in options.tasks}
        self.two = self.mean_of(options.tasks[:2])
        self.all_tasks = self.mean_of(options.tasks)
        self.permuted = {s for s, about in self.grid.sets.items() if "order" in about}

    def mean_of(self, tasks):
        """The mean accuracy over tasks; of one task that task, of none None."""
        if len(tasks) < 2:
            return self.tasks[tasks[0]] if tasks else None
        return Measure(f"mean accuracy ({', '.join(tasks)})", tuple(tasks), False)

    def both(self):
        """What claims about quality are judged by."""
        return [m for m in (self.perplexity, self.all_tasks) if m]

    def fixed(self, method):
        return self.grid.methods[method]["method"] in UNCALIBRATED

    def sample(self, model, method, set_name, measure):
        """Of all finished draws that have all metrics of the measure; None if there is none."""
        if method is None or measure is None:
            return None
        sample = self.raw(model, method, set_name, measure)
        return sample and dataclasses.replace(sample, spread=self.spread(model, method, measure))

    def raw(self, model, method, set_name, measure):
        """The sample without its spread."""
        key = model, method, set_name, measure.metrics
        if key not in self._samples:
            self._samples[key] = self.read(*key)
        return self._samples[key]

    def read(self, model, method, set_name, metrics):
        draws, rows = [], []
        for cell in self.results.done(model, method, set_name):
            row = [self.results.outcomes(cell, m, self.options.accuracy.get(m, "acc")) for m in metrics]
            if all(r is not None for r in row):
                draws.append(cell.draw)
                rows.append(row)
        if not rows:
            return None
        blocks = []
        for k, metric in enumerate(metrics):
            if len({len(row[k]) for row in rows}) > 1:
                raise StoreError(f"{metric} of {model}, {method}, {set_name} has other items from draw to draw", 65)
            blocks.append(np.stack([row[k] for row in rows]))
        return Sample(tuple(blocks), tuple(draws), self.fixed(method))

    def effect(self, model, method, set_name, measure, reference):
        """Of a set against `reference`, a (method, set) of the same model; None without the results."""
        a, b = self.sample(model, method, set_name, measure), self.sample(model, *reference, measure)
        return compare(a, b) if a and b else None

    # ---- spread between draws ----

    def spread(self, model, method, measure):
        """Pooled over the sets of the model that have several draws; else over the other models; else assumed."""
        key = model, method, measure.metrics
        if key not in self._spreads:
            self._spreads[key] = self.find_spread(model, method, measure)
        return self._spreads[key]

    def find_spread(self, model, method, measure):
        if self.fixed(method):
            return None
        own = self.pooled([model], method, measure)
        if own:
            return Spread(*own, f"spread of the draws of {method}'s other sets")
        others = self.pooled([m for m, about in self.grid.models.items() if m != model and "inject" not in about],
                             method, measure)
        if others:
            return Spread(*others, f"spread of {method}'s draws on other models")
        assumed = self.options.draw_spread.get("perplexity" if measure.perplexity else "accuracy")
        return Spread(assumed, math.inf, "spread assumed in the grid file") if assumed else None

    def pooled(self, models, method, measure):
        """(standard deviation, degrees of freedom) between draws within sets; None without two draws of any set."""
        squares, df = 0.0, 0
        for model in models:
            for set_name in self.results.sets_of(model, method):
                sample = self.raw(model, method, set_name, measure)
                if set_name in self.permuted or sample is None or len(sample.draws) < 2:
                    continue
                values = sample.values()
                squares += float(np.var(values, ddof=1)) * (len(values) - 1)
                df += len(values) - 1
        return (math.sqrt(squares / df), df) if df else None

    # ---- noise floor ----

    def noise(self, model, method, measure):
        """Source -> (standard deviation of one result, degrees of freedom), of what should not matter: calibration
        draws, the order of windows, and perturbations as small as rounding."""
        key = model, method, measure.metrics
        if key not in self._noise:
            found = {"draws": self.pooled([model], method, measure), "order": self.order_noise(model, method, measure),
                     "perturbation": self.perturbation_noise(model, method, measure)}
            self._noise[key] = {source: sd for source, sd in found.items() if sd}
        return self._noise[key]

    def order_noise(self, model, method, measure):
        """Between cells whose windows are the same in another order."""
        same = {}
        for set_name in self.results.sets_of(model, method):
            sample = self.raw(model, method, set_name, measure)
            for draw, value in zip(sample.draws if sample else (), sample.values() if sample else ()):
                about = self.grid.draws[set_name, draw]
                windows = tuple(sorted((k, str(v)) for k, v in about.items()
                                       if k not in ("name", "group", "draw", "order")))
                same.setdefault(windows, {})[about.get("order")] = value
        squares = df = 0
        for values in same.values():
            if len(values) > 1:
                squares += float(np.var(list(values.values()), ddof=1)) * (len(values) - 1)
                df += len(values) - 1
        return (math.sqrt(squares / df), df) if df else None

    def perturbation_noise(self, model, method, measure):
        squares = []
        for other in self.options.perturbed.get(method, []):
            for set_name in self.results.sets_of(model, other):
                a, b = (self.raw(model, m, set_name, measure) for m in (method, other))
                if a and b and set(a.draws) & set(b.draws):
                    squares += list(a.minus(b).values() ** 2 / 2)
        return (math.sqrt(sum(squares) / len(squares)), len(squares)) if squares else None

    def floor(self, model, method, measure, draws=(1, 1)):
        """The difference that 5 % of pairs of means over so many draws exceed by noise alone."""
        if self.fixed(method):
            return 0.0
        largest = max((sd for sd, _ in self.noise(model, method, measure).values()), default=0.0)
        return 1.96 * largest * math.sqrt(sum(1.0 / n for n in draws))
