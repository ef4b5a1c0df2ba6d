"""Figures of our own: comparisons with their intervals, F8, and injected outliers."""

import math

import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from report.style import COLORS, MARKERS, WIDTH, Palette, plt, save, with_legend_row
from report.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED

VERDICT_STYLE = {SUPPORTED: (COLORS[0], "o"), CONTRADICTED: (COLORS[1], "s"), UNDECIDED: ("0.45", "D")}
MOST_LINES = 16


def forest(part, directory, stem):
    """Effects and intervals of a part, with the margin as a band: a line for every comparison, or, of many, for all
    that have model and method in common. None if there is nothing to draw."""
    rows = [r for r in part.rows if r.shown is None]
    if sum(r.effect is not None for r in rows) < 2:
        return None
    many = len(rows) > MOST_LINES
    labels = [f"{r.model}, {r.method}" + ("" if many else f": {r.subject}") for r in rows]
    lines = list(dict.fromkeys(labels))
    figure, axis = plt.subplots(figsize=(WIDTH, 1.2 + (0.5 if many else 0.26) * len(lines)))
    margin = 100 * max(r.margin for r in rows)
    axis.axvspan(-margin, margin, color="#e8e8e8", zorder=0)
    axis.axvline(0.0, color="0.3", linewidth=0.9)
    for y, label in enumerate(lines):
        mine = [r for r, name in zip(rows, labels) if name == label]
        for i, row in enumerate(mine):
            if row.effect is not None:
                draw_row(axis, row, y + 0.7 * ((i + 0.5) / len(mine) - 0.5))
        missing = sum(r.effect is None for r in mine)
        if missing:
            text = f"{missing} of {len(mine)}: no data" if many else "no data"
            axis.annotate(
                text, (0.99, y), xycoords=("axes fraction", "data"), fontsize=7, color="0.3", va="center", ha="right"
            )
    set_reach(axis, [r for r in rows if r.effect], margin)
    axis.set_yticks(range(len(lines)), lines, fontsize=8)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.grid(axis="x")
    unit = {
        "ratio": f"difference of log {rows[0].measure}, in 1/100 (about %)",
        "points": "difference of accuracy, points",
    }
    axis.set_xlabel(unit.get(rows[0].scale, f"difference of {rows[0].measure}, in 1/100"))
    for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED):
        if any(r.verdict == verdict for r in rows):
            color, marker = VERDICT_STYLE[verdict]
            axis.plot([], [], marker, color=color, label=verdict)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, directory, stem)
    return stem


def draw_row(axis, row, y):
    color, marker = VERDICT_STYLE[row.verdict]
    low, high = row.interval()
    axis.plot([100 * low, 100 * high], [y, y], color=color, linewidth=1.3)
    axis.plot(100 * row.value(), y, marker, color=color, markersize=4)


def set_reach(axis, rows, margin):
    """All effects are to be seen; intervals that are much longer are cut. Large effects: linear near 0 only."""
    reach = max(3 * margin, 1.6 * max(abs(100 * r.value()) for r in rows))
    if reach > 60 * margin:
        axis.set_xscale("symlog", linthresh=10 * margin)
        decades = [10.0**k for k in range(6) if 10.0**k > 9 * margin]
        axis.xaxis.set_major_locator(FixedLocator([-d for d in decades] + [0.0] + decades))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ends = [100 * end for r in rows for end in r.interval()]
    axis.set_xlim(max(-reach, min(-1.5 * margin, 1.1 * min(ends))), min(reach, max(1.5 * margin, 1.1 * max(ends))))


def dead_bars(dead, directory, stem):
    """F8 as one picture: harm of every set with dead columns deleted, rounded, and deleted without quantization."""
    o, model = dead.options, (dead.options.old or [None])[0]
    pairs = [p for p in o.dead_pairs if p[0] in (o.methods["gptq"], o.methods["awq"])]
    deletion = [m for m in [o.methods["deletion"]] if m]
    methods = [m for pair in pairs for m in pair] + deletion
    points = {m: {p[0]: p for p in dead.points(model, m)} for m in methods} if model else {}
    sets = [s for s in dead.results.grid.sets if any(s in p for p in points.values()) and s != o.baseline]
    if not sets or not pairs:
        return None
    counts = {s: max(p[s][1] for p in points.values() if s in p) for s in sets}
    sets.sort(key=lambda s: (counts[s], s))
    styles = {m: (COLORS[i], fill) for i, pair in enumerate(pairs) for m, fill in zip(pair, ("full", "none"))}
    styles.update({m: (COLORS[6], "full") for m in deletion})
    figure, axis = plt.subplots(figsize=(WIDTH, 4.4))
    ends = [-0.5, 2.0]
    for i, method in enumerate(methods):
        color, fill = styles[method]
        for x, s in enumerate(sets):
            if s in points[method]:
                effect = points[method][s][2]
                at = x + 0.7 * ((i + 0.5) / len(methods) - 0.5)
                value, low, high = (100 * math.expm1(v) for v in (effect.estimate, *effect.interval(o.confidence)))
                if effect.known:
                    axis.plot([at, at], [low, high], color=color, linewidth=1.1)
                axis.plot(at, value, MARKERS[i % len(MARKERS)], color=color, fillstyle=fill, markersize=7)
                ends += [1.2 * value, min(low, 3 * abs(value)), min(high, 3 * abs(value))]
        axis.plot([], [], MARKERS[i % len(MARKERS)], color=color, fillstyle=fill, markersize=7, label=method)
    axis.axhline(0.0, color="0.3", linewidth=0.9)
    axis.set_yscale("symlog", linthresh=2.0)
    ticks = [-2, -1, 0, 1, 2, 5, 10, 20, 50, 100, 200, 500]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_ylim(max(-5.0, min(ends)), 1.1 * max(ends))
    axis.set_xticks(range(len(sets)), [f"{o.label(s)}\n({counts[s]:.0f} dead)" for s in sets], fontsize=7.5)
    axis.set_ylabel(f"{model}: perplexity over that with\n{o.baseline}, in % more")
    axis.set_title("Dead columns deleted (full) or rounded (open)", loc="left")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, directory, stem)
    return stem


def dead_scatter(dead, directory, stem):
    """Harm against the number of dead columns, sets as points, models as colours."""
    methods = [m for m in (dead.options.methods["gptq"], dead.options.methods["awq"]) if m]
    found = {(model, m): [p for p in dead.points(model, m)] for model in dead.old for m in methods}
    found = {key: points for key, points in found.items() if len(points) > 2}
    if not found:
        return None
    figure, axes = plt.subplots(1, len(methods), figsize=(WIDTH, 3.8), squeeze=False, sharey=True)
    models = Palette(dead.old)
    for axis, method in zip(axes[0], methods):
        for model in dead.old:
            points = found.get((model, method), [])
            axis.plot([], [], models.marker(model), color=models.color(model), label=model)
            for name, count, effect in points:
                axis.plot(
                    count,
                    100 * math.expm1(effect.estimate),
                    models.marker(model),
                    color=models.color(model),
                    fillstyle="full" if name == dead.options.nonsense else "none",
                )
        axis.set_title(method, loc="left")
        axis.set_xscale("symlog", linthresh=10)
        axis.set_yscale("symlog", linthresh=1)
        axis.xaxis.set_major_locator(FixedLocator([0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]))
        axis.yaxis.set_major_locator(FixedLocator([-1, 0, 1, 2, 5, 10, 20, 50, 100]))
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_major_formatter(StrMethodFormatter("{x:g}"))
            direction.set_minor_formatter(NullFormatter())
        axis.set_xlabel("dead columns, mean over draws")
        axis.grid(axis="both")
    axes[0][0].set_ylabel(f"perplexity over that with {dead.options.baseline}, % more")
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, directory, stem)
    return stem


def twins_figure(parts, directory, stem):
    """Harm of injected outliers by method: a panel a twin, sets as markers."""
    parts = [p for p in parts if any(r.effect for r in p.rows)]
    if not parts:
        return None
    methods = list(dict.fromkeys(r.method for p in parts for r in p.rows))
    subjects = list(dict.fromkeys(r.subject for p in parts for r in p.rows))
    columns = 2 if len(parts) > 1 else 1
    lines = -(-len(parts) // columns)
    panel = 0.9 + 0.3 * len(methods)
    figure, axes, bottom = with_legend_row(lines, columns, (WIDTH, panel * lines + 0.6), panel)
    panels = [axis for line in axes for axis in line]
    for axis, part in zip(panels, parts):
        twin_panel(axis, part, methods, subjects)
    for axis in panels[len(parts) :]:
        axis.axis("off")
    for line in axes:
        for axis in line[1:]:
            axis.tick_params(labelleft=False)
    handles = [
        plt.Line2D(
            [],
            [],
            color=COLORS[i % len(COLORS)],
            marker=marker_of(i),
            label=s.removeprefix("twin / clean").lstrip(", ") or "no calibration",
        )
        for i, s in enumerate(subjects)
    ]
    bottom.legend(handles=handles, loc="center", ncol=min(5, len(handles)), frameon=False)
    save(figure, directory, stem)
    return stem


def marker_of(place):
    """Another one than the first time where colours begin again."""
    return MARKERS[(place + place // len(COLORS)) % len(MARKERS)]


def twin_panel(axis, part, methods, subjects):
    values, ends = [], []
    for row in part.rows:
        if row.effect is None:
            continue
        i = subjects.index(row.subject)
        y = methods.index(row.method) + 0.5 * ((i + 0.5) / len(subjects) - 0.5)
        if row.effect.known and row.effect.df > 1.5:  # of two seeds an interval says nothing
            low, high = (np.clip(np.exp(v), 0.2, 1e4) for v in np.clip(row.interval(), -5, 10))
            axis.plot([low, high], [y, y], color=COLORS[i % len(COLORS)], linewidth=1.2)
            ends += [low, high]
        values.append(math.exp(row.value()))
        axis.plot(values[-1], y, marker_of(i), color=COLORS[i % len(COLORS)], markersize=5)
    axis.axvline(1.0, color="0.3", linewidth=0.9)
    # A long interval runs out of the frame rather than squeezing all others.
    shown = np.clip([*values, *ends], min(values) / 2, 2 * max(values))
    low, high = min(0.95, 0.97 * min(shown)), max(1.15, 1.05 * max(shown))
    if high > 3:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 100 else (1,)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(low, high)
    axis.grid(axis="x")
    axis.set_yticks(range(len(methods)), methods, fontsize=9)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_title(part.title.split(": ")[0], loc="left", fontsize=9)
    axis.set_xlabel("perplexity, twin / clean model")
