"""Figures 10 to 13 and the kinds of appendices D and E: histograms and patterns of activations.

Histogram: density of all outputs of a module type near 0, mean over layers. Pattern: means of every channel in every
layer; means between the 1st and 99th percentile of the model's module become 0; what is left is max-pooled (positive)
and min-pooled (negative) over neighbouring channels to 128 blocks, or to the width if that is smaller.
"""

import itertools

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from report.activation_claims import MODULES
from report.style import COLORS, WIDTH, plt, save, with_legend_row

BLOCKS = 128
ROWS = 6  # studies on one figure of appendix D
CURVES = 8
LINES = ("-", "--", ":", "-.")
# Sequential colours without their palest third, which is too close to the white of "nothing here".
REDS, BLUES = (ListedColormap(plt.get_cmap(name)(np.linspace(0.3, 1.0, 256))) for name in ("Reds", "Blues"))


def density(counts, step):
    """[layers, bins + 2] -> ([bins] density, share outside), means over layers."""
    total = counts.sum(axis=1, keepdims=True)
    return (counts[:, 1:-1] / total / step).mean(axis=0), float(((counts[:, 0] + counts[:, -1]) / total[:, 0]).mean())


def pattern(means):
    """[layers, channels] -> positive and negative [layers, blocks]."""
    low, high = np.percentile(means, [1, 99])
    kept = np.where((means < low) | (means > high), means, 0.0)
    blocks = min(BLOCKS, means.shape[1])
    starts = np.arange(blocks) * means.shape[1] // blocks
    return (
        np.maximum.reduceat(np.maximum(kept, 0.0), starts, axis=1),
        np.minimum.reduceat(np.minimum(kept, 0.0), starts, axis=1),
    )


class ActivationFigures:
    def __init__(self, results, options, directory):
        self.results, self.options, self.directory = results, options, directory
        self.models = options.old + options.modern

    def studies(self, model, sets):
        """[(set, cell)] of the studies that are there."""
        return [(s, cell) for s in sets for cell in [self.results.study(model, s)] if cell]

    def two_languages(self):
        """A Latin and a non-Latin language, English and Mandarin where the grid has them, that have studies."""

        def first(names, wanted):
            there = [s for s in names if any(self.results.study(m, s) for m in self.models)]
            ranked = [s for w in wanted for s in there if self.options.label(s).startswith(w)]
            return (ranked or there or [None])[0]

        return [
            s for s in (first(self.options.latin(), ("eng", "en")), first(self.options.non_latin(), ("zho", "zh"))) if s
        ]

    # ---- histograms ----

    def histograms(self, stem, models, sets):
        """Panels: module by set, a curve a model. False if there is no study."""
        studies = {(m, s): cell for m in models for s, cell in self.studies(m, sets)}
        if not studies:
            return False
        sets = [s for s in sets if any((m, s) in studies for m in models)]
        size = max(WIDTH, 3.2 * len(sets)), 6.4
        figure, axes, bottom = with_legend_row(2, len(sets), size, 2.8)
        for row, (module, title) in enumerate(MODULES.items()):
            for column, set_name in enumerate(sets):
                axis = axes[row][column]
                for model, line in zip(models, itertools.cycle(LINES)):
                    if (model, set_name) in studies:
                        self.curve(axis, studies[model, set_name], module, self.color(model), line)
                axis.set_title(f"{title}, {self.options.label(set_name)}", loc="left", fontsize=10)
                axis.set_xlabel("activation")
            top = max(axis.get_ylim()[1] for axis in axes[row])
            for axis in axes[row]:
                axis.set_ylim(0, top)
            axes[row][0].set_ylabel("density, mean over layers")
        there = [(m, line) for m, line in zip(models, itertools.cycle(LINES)) if any((m, s) in studies for s in sets)]
        handles = [plt.Line2D([], [], color=self.color(m), linestyle=line, label=m) for m, line in there]
        bottom.legend(handles=handles, loc="center", ncol=len(handles), frameon=False)
        save(figure, self.directory, stem)
        return True

    def color(self, model):
        return COLORS[self.models.index(model) % len(COLORS)]

    def curve(self, axis, cell, module, color, line):
        edge, bins = cell.study["range"], cell.study["bins"]
        values, _ = density(self.results.study_arrays(cell)[f"{module}.counts"], 2 * edge / bins)
        axis.stairs(
            values, np.linspace(-edge, edge, bins + 1), linewidth=1.2, linestyle=line, baseline=None, color=color
        )
        axis.set_xlim(-edge, edge)

    # ---- patterns ----

    def patterns(self, stem, studies):
        """A row for each (label, cell): positive and negative parts of both modules, one colour scale a module.
        Placed by hand: laying out so many axes automatically takes seconds."""
        height = 1.9 * len(studies) + 1.7
        figure, axes = plt.subplots(len(studies), 4, figsize=(12.0, height), squeeze=False, layout="none")
        figure.subplots_adjust(
            left=0.05, right=0.985, top=1 - 0.6 / height, bottom=1.0 / height, wspace=0.12, hspace=0.42
        )
        for column, (module, title) in enumerate(MODULES.items()):
            maps = [pattern(self.results.study_arrays(cell)[f"{module}.mean"]) for _, cell in studies]
            sizes = np.abs(np.concatenate([m[m != 0] for pair in maps for m in pair] or [np.ones(1)]))
            norm = LogNorm(sizes.min(), max(sizes.max(), sizes.min() * 1.001))
            for sign, (name, colors) in enumerate((("positive", REDS), ("negative", BLUES))):
                place = 2 * column + sign
                for row, ((label, _), pair) in enumerate(zip(studies, maps)):
                    shown = self.image(axes[row][place], pair[sign], norm, colors)
                    axes[row][place].set_title(label, fontsize=9, loc="left")
                left = axes[0][place].get_position().x0
                figure.text(left, 1 - 0.2 / height, f"{title}, {name}", fontsize=9.5, weight="bold")
                self.scale(figure, axes[-1][place], shown, height)
                per = studies[0][1].study["channels"][module] / maps[0][0].shape[1]
                axes[-1][place].set_xlabel("channel" if per == 1 else f"block of {per:g} channels", fontsize=9)
        for row in axes:
            row[0].set_ylabel("layer", fontsize=9)
        save(figure, self.directory, stem)

    def image(self, axis, values, norm, colors):
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.grid(False)
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(True)
        return axis.imshow(
            np.ma.masked_equal(np.abs(values), 0.0),
            norm=norm,
            cmap=colors,
            aspect="auto",
            interpolation="nearest",
            extent=(0, values.shape[1], values.shape[0] - 0.5, -0.5),
        )

    def scale(self, figure, axis, shown, height):
        """A colour bar below a column."""
        box = axis.get_position()
        bar = figure.colorbar(
            shown, cax=figure.add_axes([box.x0, 0.38 / height, box.width, 0.12 / height]), orientation="horizontal"
        )
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        bar.ax.tick_params(labelsize=8)

    # ---- the paper's figures ----

    def figure10(self):
        sets, number = self.two_languages(), "10"
        text = "Outputs near 0, density, mean over layers; the table of widths says how much lies outside. "
        if not sets or not self.histograms("figure10", self.models, sets):
            return "no activation study of a language"
        missing = [m for m in self.models if not self.studies(m, sets)]
        return (
            "figure10",
            f"Figure {number}: histograms of activations",
            text + (f"No data: {', '.join(missing)}." if missing else "All models of the grid."),
        )

    def pattern_figure(self, number, models):
        """Figures 11 to 13: two models on the Latin-script language."""
        sets = self.two_languages()[:1]
        studies = [(f"{m}, {self.options.label(s)}", cell) for m in models for s, cell in self.studies(m, sets)]
        if not studies:
            return "no activation study of a language" if models else "the grid has fewer models than the paper"
        self.patterns(f"figure{number}", studies)
        missing = [m for m in models if not self.studies(m, sets)]
        return (
            f"figure{number}",
            f"Figure {number}: channel means beyond the 1st and 99th percentile",
            ", ".join(label for label, _ in studies)
            + ". Outputs, pooled; colour: |mean|, one scale for each module; white: nothing beyond the percentiles."
            + (f" No data: {', '.join(missing)}." if missing else ""),
        )

    def appendix_d(self, model):
        """[(stem, title, caption)]: all studies of a model, six to a figure."""
        studies = [
            (f"{model}, {self.options.label(s)}", cell) for s, cell in self.studies(model, list(self.results.grid.sets))
        ]
        made = []
        for first in range(0, len(studies), ROWS):
            stem = f"appendixD-{self.models.index(model) + 1}-{first // ROWS + 1}"
            self.patterns(stem, studies[first : first + ROWS])
            made.append(
                (
                    stem,
                    f"Appendix D: {model}, part {first // ROWS + 1}",
                    "Channel means beyond the 1st and 99th percentile, by calibration set; colour: |mean|.",
                )
            )
        return made

    def appendix_e(self):
        """[(stem, title, caption)]: histograms of more sets, four to a figure."""
        sets = [s for s in self.results.grid.sets if any(self.results.study(m, s) for m in self.models)]
        made = []
        for first in range(0, len(sets), 4):
            stem = f"appendixE-{first // 4 + 1}"
            self.histograms(stem, self.models[:CURVES], sets[first : first + 4])
            made.append((stem, f"Appendix E, part {first // 4 + 1}", "Histograms as in figure 10, by calibration set."))
        return made
