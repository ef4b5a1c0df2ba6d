"""Samples of a grid's results."""

import dataclasses

import numpy as np

from report.noise import Noise
from report.stats import Sample
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
        return (
            effect
            if self.perplexity
            else dataclasses.replace(effect, estimate=-effect.estimate, blocks=tuple(-b for b in effect.blocks))
        )


class Measures:
    """All samples of a grid, with the spread between calibration draws for those of few draws."""

    def __init__(self, results, options):
        self.results, self.options, self.grid = results, options, results.grid
        self._samples = {}
        self.perplexity = Measure("perplexity", (options.perplexity,), True) if options.perplexity else None
        self.tasks = {t: Measure(f"{t} accuracy", (t,), False) for t in options.tasks}
        self.two = self.mean_of(options.tasks[:2])
        self.all_tasks = self.mean_of(options.tasks)
        self.noise = Noise(self)
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
        return sample and dataclasses.replace(sample, spread=self.noise.spread(model, method, measure))

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
