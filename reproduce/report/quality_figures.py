"""Figures 1 to 9 and 14 to 25 of the paper: perplexities and accuracies, normalised as the paper does.

Error bars are the simple form, SE of the value over the value of the baseline; figures.csv also has the full form,
which adds the baseline's own relative error. Draws are averaged and shown as points.
"""

import dataclasses
import math

import numpy as np

from report.style import WIDTH, Palette, gap, plt, save

LABELS_UP_TO = 60  # languages that still get a label each


@dataclasses.dataclass
class Value:
    """A normalised value; `draws` are those of single draws."""

    mean: float
    simple: float  # standard error, None for perplexity
    full: float
    draws: list


@dataclasses.dataclass
class Plan:
    """One of the paper's figures of bars."""

    number: str
    method: str  # role
    sets: list  # None: a method without calibration, normalised to full precision
    measure: object
    whole_axis: bool = False


def normalised(sample, base):
    """Value of a sample relative to a baseline's mean."""
    if len(sample.outcomes) == 1 and not is_accuracy(sample):
        ratios = np.exp(sample.values() - base.mean())
        return Value(math.exp(sample.mean() - base.mean()), None, None, list(ratios))
    a, b = sample.mean(), base.mean()
    if b == 0.0:
        return None
    se_a, se_b = sample.standard_error(), base.standard_error()
    full = a / b * math.hypot(se_a / a, se_b / b) if a else math.nan
    return Value(a / b, se_a / b, full, list(sample.values() / b))


def is_accuracy(sample):
    return all(((b == 0.0) | (b == 1.0)).all() for b in sample.outcomes)


class QualityFigures:
    def __init__(self, measures, directory, palette):
        self.measures, self.options, self.directory, self.sets = measures, measures.options, directory, palette
        self.models = self.options.old + self.options.modern
        self.numbers = []  # rows of figures.csv

    def value(self, model, method, set_name, measure, reference):
        sample, base = (self.measures.sample(model, *cell, measure) for cell in ((method, set_name), reference))
        return normalised(sample, base) if sample and base else None

    def plans(self):
        o, m = self.options, self.measures
        pair = [o.baseline, o.nonsense] if o.nonsense else []
        tasks = {number: m.tasks.get(task) for number, task in zip((0, 1), o.tasks)}
        content = [o.baseline] + [s for s, metric in o.content.items() if metric in o.tasks[:2]]
        content = content[:1] + content[:0:-1] if len(content) == 3 else content  # the paper's order: PIQA, ARC-C
        plans = [
            Plan("1", "gptq", pair, m.perplexity),
            Plan("2", "gptq", pair, m.two),
            Plan("3", "gptq", content, tasks.get(0)),
            Plan("4", "gptq", content, tasks.get(1)),
            Plan("8", "naive", None, m.perplexity),
            Plan("9", "naive", None, m.all_tasks),
        ]
        for number, method in ((14, "gptq"), (16, "awq"), (18, "smoothquant")):
            plans += [
                Plan(str(number), method, pair, m.perplexity, True),
                Plan(str(number + 1), method, pair, m.two, True),
            ]
        for number, method in ((20, "gptq"), (22, "awq"), (24, "smoothquant")):
            plans += [
                Plan(str(number), method, content, tasks.get(1)),
                Plan(str(number + 1), method, content, tasks.get(0)),
            ]
        return plans

    def draw_bars(self, plan):
        """(stem, title, caption), or a text that says why there is nothing to draw."""
        method = self.options.methods[plan.method]
        if method is None:
            return f"the grid has no {plan.method} method"
        if plan.measure is None:
            return "the grid has no metric for it"
        if plan.sets is not None and len(plan.sets) < 2:
            return "the grid names no such calibration sets in [report]"
        full = (self.options.methods["full_precision"], None)
        if plan.sets is None and full[0] is None:
            return "the grid has no full-precision method"
        groups = [None] if plan.sets is None else plan.sets
        values = {
            (model, s): self.value(
                model, method, s, plan.measure, full if s is None else (method, self.options.baseline)
            )
            for model in self.models
            for s in groups
        }
        if not any(values.values()):
            return "no result yet"
        against = full[0] if plan.sets is None else self.options.baseline
        title = f"{method}: {plan.measure.title}"
        caption = f"Relative to {against} = 1; {'lower' if plan.measure.perplexity else 'higher'} is better."
        figure = self.bars(plan, values, groups, title, against)
        stem = f"figure{int(plan.number):02d}"
        save(figure, self.directory, stem)
        self.keep(plan.number, values, against)
        return stem, f"Figure {plan.number}: {title}", caption + self.bar_caption(plan)

    def bar_caption(self, plan):
        if plan.measure.perplexity:
            return " Points: single calibration draws." if plan.sets else ""
        return " Bars: standard error over questions, of the value alone." + (" Points: draws." if plan.sets else "")

    def bars(self, plan, values, groups, title, against):
        width = 0.8 / len(groups)
        figure, axis = plt.subplots(figsize=(WIDTH, 3.8))
        there = [v for v in values.values() if v]
        low = min(min([v.mean - (v.simple or 0.0), *v.draws]) for v in there)
        high = max(max([v.mean + (v.simple or 0.0), *v.draws]) for v in there)
        bottom = 0.0 if plan.whole_axis else min(low, 1.0) - 0.6 * max(high - low, 0.01)
        for g, name in enumerate(groups):
            label = self.options.label(name) if name else self.options.methods[plan.method]
            color = self.sets.color(name or self.options.baseline)
            axis.bar(0, 0, color=color, label=label)
            for i, model in enumerate(self.models):
                x, value = i + (g - (len(groups) - 1) / 2) * width, values[model, name]
                if value is None:
                    gap(axis, x, 0.9 * width)
                    continue
                axis.bar(
                    x,
                    value.mean - bottom,
                    0.9 * width,
                    bottom=bottom,
                    color=color,
                    yerr=value.simple,
                    error_kw={"capsize": 3, "linewidth": 1.1},
                )
                if len(value.draws) > 1:
                    side = np.linspace(-0.25, 0.25, len(value.draws)) * width
                    axis.plot(
                        x + side,
                        value.draws,
                        "o",
                        color="white",
                        markeredgecolor="black",
                        markersize=4,
                        linestyle="none",
                        zorder=4,
                    )
        axis.axhline(1.0, color="0.3", linewidth=0.9, linestyle="--")
        axis.set_xticks(range(len(self.models)), self.models)
        axis.set_xlim(-0.6, len(self.models) - 0.4)
        axis.set_ylim(bottom, high + 0.08 * (high - bottom))
        cut = "" if bottom == 0.0 else "\n(axis does not start at 0)"
        what = "perplexity" if plan.measure.perplexity else "accuracy"
        axis.set_ylabel(f"{what} / {what} with {self.options.label(against)}{cut}")
        axis.set_title(title, loc="left")
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure

    def keep(self, number, values, against):
        for (model, name), v in values.items():
            if v:
                self.numbers.append([number, model, name or "", against, v.mean, v.simple, v.full, len(v.draws)])

    # ---- figures 5 to 7 ----

    def draw_languages(self, number, role):
        """Mean accuracy of every model over calibration languages, from the old model's worst to its best."""
        o, method, measure = self.options, self.options.methods[role], self.measures.all_tasks
        full = (o.methods["full_precision"], None)
        if method is None or full[0] is None:
            return f"the grid has no {role if method is None else 'full-precision'} method"
        if measure is None or not o.figure_languages:
            return "the grid has no accuracies" if measure is None else "[report] names no languages"
        values = {(m, s): self.value(m, method, s, measure, full) for m in self.models for s in o.figure_languages}
        if not any(values.values()):
            return "no result yet"
        first = (o.old or self.models)[0]
        order = sorted(
            o.figure_languages,
            key=lambda s: (values[first, s] is None, values[first, s].mean if values[first, s] else 0.0, s),
        )
        title = f"{method}: {measure.title}"
        save(self.languages(values, order, title, full[0], first), self.directory, f"figure{number:02d}")
        self.keep(str(number), values, full[0])
        return (
            f"figure{number:02d}",
            f"Figure {number}: {title} by language of the calibration text",
            (
                f"Relative to {full[0]} = 1; languages sorted by {first}'s value; bars: standard error over questions"
                " of the value alone. Hatched: no data of any model. A model without data at a language has no marker"
                " there."
            ),
        )

    def languages(self, values, order, title, full, first):
        figure, axis = plt.subplots(figsize=(WIDTH, 4.4))
        models = Palette(self.models)
        for i, model in enumerate(self.models):
            shift = 0.5 * ((i + 0.5) / len(self.models) - 0.5)
            points = [(x + shift, values[model, s]) for x, s in enumerate(order) if values[model, s]]
            if points:
                axis.errorbar(
                    [x for x, _ in points],
                    [v.mean for _, v in points],
                    [v.simple for _, v in points],
                    fmt=models.marker(model),
                    color=models.color(model),
                    markersize=5,
                    capsize=2,
                    linewidth=1,
                    label=model,
                )
        for x, s in enumerate(order):
            if not any(values[m, s] for m in self.models):
                gap(axis, x)
        axis.axhline(1.0, color="0.3", linewidth=0.9, linestyle="--")
        step = -(-len(order) // LABELS_UP_TO)
        shown = list(range(0, len(order), step))
        axis.set_xticks(
            shown,
            [self.options.label(order[x]) for x in shown],
            rotation=90 if len(order) > 12 else 0,
            fontsize=7 if len(order) > 30 else 10,
        )
        axis.set_xlim(-0.6, len(order) - 0.4)
        axis.set_xlabel(f"language of the calibration text, sorted by {first}")
        axis.set_ylabel(f"accuracy / accuracy of {full}")
        axis.set_title(title, loc="left")
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure
