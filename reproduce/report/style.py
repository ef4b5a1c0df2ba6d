"""How figures look, and how they are written: equal figures give equal files."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

# Okabe and Ito's colours, which colour-blind readers tell apart, and markers that black and white printing keeps apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
MARKERS = "osD^vPX*"
WIDTH = 9.0  # inches
GAP = {"facecolor": "none", "edgecolor": "0.6", "hatch": "////", "linewidth": 0.0}

plt.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "0.9",
        "axes.axisbelow": True,
        "legend.fontsize": 9,
        "legend.framealpha": 1.0,
        "svg.hashsalt": "ptq",
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 0.6,
    }
)


class Palette:
    """A colour and a marker for each name of an axis, the same in all figures."""

    def __init__(self, names):
        self.place = {name: i for i, name in enumerate(names)}

    def color(self, name):
        return COLORS[self.place[name] % len(COLORS)]

    def marker(self, name):
        return MARKERS[self.place[name] % len(MARKERS)]


def gap(axis, x, width=0.8):
    """Hatches the place of a value that is not there, over the whole height of the axis."""
    axis.axvspan(x - width / 2, x + width / 2, **GAP)
    axis.annotate(
        "no data",
        (x, 0.5),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="center",
        va="center",
        fontsize=8,
        color="0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def with_legend_row(lines, columns, size, panel):
    """(figure, axes [lines, columns], an invisible axis across the bottom for a legend of all panels). Inches."""
    figure = plt.figure(figsize=size)
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=[panel] * lines + [0.45])
    axes = [[figure.add_subplot(grid[i, j]) for j in range(columns)] for i in range(lines)]
    bottom = figure.add_subplot(grid[-1, :])
    bottom.axis("off")
    return figure, axes, bottom


def save(figure, directory, stem):
    """PNG and PDF, laid out once."""
    figure.savefig(directory / f"{stem}.png", dpi=120, metadata={"Software": None})
    figure.set_layout_engine("none")
    figure.savefig(directory / f"{stem}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
