#!/usr/bin/env python3
"""Tables and one figure from the results of `ptq eval --json`.

    plot.py CELLS.tsv OUT [--command TEXT]

Every line of CELLS.tsv is a cell: model, label, result file (relative to CELLS.tsv), separated by tabs. The first cell
of a model is its baseline. A label "METHOD, SET" also goes into a table of methods by calibration sets. Writes
OUT/report.md, results.csv, results.png and results.pdf, and prints the table. TEXT is named in the report as what made
it. A missing result is a gap, not an error. Equal results give equal files.
"""
import argparse
import csv
import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

MARKERS = "osD^v"
GAP = "-"
# Key in a result's "cost" -> column, factor, digits.
COSTS = {"scheme_bits_per_weight": ("bits/weight", 1, 2), "weight_bytes": ("weights MiB", 2**-20, 1),
         "decode_tokens_per_second": ("decode tokens/s", 1, 1)}
TITLES = {"choice": "ARC-shaped", "arc_challenge": "ARC-Challenge", "piqa": "PIQA", "winogrande": "WinoGrande"}


def read_cells(path):
    """Model -> [(label, metrics or None)] in file order; metrics also hold what the cell costs."""
    models = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise ValueError(f"{path}: line {number} has {len(fields)} fields, expected model, label, file")
        model, label, name = fields
        file = path.parent / name
        metrics = None
        if file.exists():
            result = json.loads(file.read_text(encoding="utf-8"))
            cost = result.get("cost", {})
            cost.setdefault("scheme_bits_per_weight", cost.get("bits_per_weight"))  # nothing quantized: as stored
            metrics = {**result["metrics"], "cost": cost}
        models.setdefault(model, []).append((label, metrics))
    return models


def perplexity_ratio(cell, base):
    """Ratio to the baseline and its standard error. Both saw the same windows, so the error is that of the paired
    differences of their losses; None where the files do not hold them."""
    ratio = cell["value"] / base["value"]
    pairs = list(zip(cell.get("window_nll", []), base.get("window_nll", [])))
    if len(pairs) < 2 or len(cell["window_nll"]) != len(base["window_nll"]):
        return ratio, None
    differences = [a - b for a, b in pairs]
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    return ratio, ratio * math.sqrt(variance / len(differences))


def tasks_of(models):
    names = [name for cells in models.values() for _, metrics in cells for name in metrics or {}
             if "acc" in metrics[name]]
    return list(dict.fromkeys(names))


def with_error(value, error, digits):
    return f"{value:.{digits}f} ± {error:.{digits}f}" if error is not None else f"{value:.{digits}f}"


def rows_of(models, tasks):
    """Table rows as dictionaries of strings; accuracies in per cent."""
    for model, cells in models.items():
        base = cells[0][1]
        for label, metrics in cells:
            row = {"model": model, "cell": label}
            if metrics and "ppl" in metrics:
                ppl = metrics["ppl"]
                row["perplexity"] = with_error(ppl["value"], ppl["stderr"], 3)
                if metrics is base:
                    row["ratio"] = "1"
                elif base and "ppl" in base:
                    row["ratio"] = with_error(*perplexity_ratio(ppl, base["ppl"]), 4)
            for task in tasks:
                for kind in ("acc", "acc_norm"):
                    score = (metrics or {}).get(task, {}).get(kind)
                    if score:
                        title = f"{TITLES.get(task, task)} {kind}"
                        row[title] = with_error(100 * score["value"], 100 * score["stderr"], 1)
            cost = (metrics or {}).get("cost", {})
            for key, (title, factor, digits) in COSTS.items():
                if cost.get(key) is not None:
                    row[title] = f"{factor * cost[key]:.{digits}f}"
            yield row


def by_set(models):
    """Perplexity ratios as one table a model: methods down, calibration sets across."""
    for model, cells in models.items():
        base = (cells[0][1] or {}).get("ppl")
        table = {}
        for label, metrics in cells:
            method, comma, name = label.partition(", ")
            if comma and base and metrics and "ppl" in metrics:
                ratio, error = perplexity_ratio(metrics["ppl"], base)
                table.setdefault(method, {})[name] = with_error(ratio, error, 3)
        if len(table) > 1:
            yield model, [{"perplexity ratio": method, **row} for method, row in table.items()]


def write_csv(path, models, tasks):
    """Full precision, one column for each value and error."""
    columns = ["model", "cell", "ppl", "ppl_stderr", "ppl_ratio", "ppl_ratio_stderr"]
    columns += [f"{t}_{k}{e}" for t in tasks for k in ("acc", "acc_norm") for e in ("", "_stderr")]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for model, cells in models.items():
            base = cells[0][1]
            for label, metrics in cells:
                row = {"model": model, "cell": label}
                if metrics and "ppl" in metrics:
                    row["ppl"], row["ppl_stderr"] = metrics["ppl"]["value"], metrics["ppl"]["stderr"]
                    if base and "ppl" in base:
                        row["ppl_ratio"], row["ppl_ratio_stderr"] = perplexity_ratio(metrics["ppl"], base["ppl"])
                for task in tasks:
                    for kind in ("acc", "acc_norm"):
                        score = (metrics or {}).get(task, {}).get(kind, {})
                        row[f"{task}_{kind}"], row[f"{task}_{kind}_stderr"] = score.get("value"), score.get("stderr")
                writer.writerow(row)


def markdown(rows):
    columns = [c for c in dict.fromkeys(key for row in rows for key in row)]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row.get(c, GAP) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def aligned(rows):
    """The same table for a terminal."""
    columns = [c for c in dict.fromkeys(key for row in rows for key in row)]
    width = {c: max([len(c)] + [len(row.get(c, GAP)) for row in rows]) for c in columns}
    lines = ["  ".join(c.ljust(width[c]) for c in columns)]
    lines += ["  ".join(row.get(c, GAP).ljust(width[c]) for c in columns) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def baseline(axis, points, factor, color):
    """A dashed line at the value of the model's first cell, if that cell has one."""
    if points and points[0][0] == 0:
        axis.axvline(factor * points[0][1]["value"], color=color, linewidth=0.8, linestyle="--", zorder=0)


def draw(models, tasks, path):
    """A row of panels for each model: perplexity on the left, accuracies on the right, cells from top to bottom."""
    most = max(len(cells) for cells in models.values())
    figure, axes = plt.subplots(len(models), 2, figsize=(10, len(models) * (1.1 + 0.3 * most)), squeeze=False,
                                sharey="row", constrained_layout=True)
    for (left, right), (model, cells) in zip(axes, models.items()):
        places = range(len(cells))
        left.set_yticks(list(places))
        left.set_yticklabels([label for label, _ in cells])
        left.invert_yaxis()  # sharey: the right panel follows
        points = [(y, m["ppl"]) for y, (_, m) in zip(places, cells) if m and "ppl" in m]
        if points:
            values = [p["value"] for _, p in points]
            left.errorbar(values, [y for y, _ in points], xerr=[p["stderr"] for _, p in points], fmt="o", color="C0",
                          capsize=3)
            baseline(left, points, 1, "0.6")
            if max(values) > 2 * min(values):
                left.set_xscale("log")
                left.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
                left.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
                left.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        left.set_xlabel("perplexity (lower is better)")
        left.set_title(model, loc="left")
        for i, task in enumerate(tasks):
            scores = [(y, m[task]["acc"]) for y, (_, m) in zip(places, cells) if m and task in m]
            shift = 0.16 * (i - (len(tasks) - 1) / 2)  # tasks of a cell side by side
            right.errorbar([100 * s["value"] for _, s in scores], [y + shift for y, _ in scores],
                           xerr=[100 * s["stderr"] for _, s in scores], fmt=MARKERS[i % len(MARKERS)],
                           color=f"C{i + 1}", capsize=3, markersize=5, label=TITLES.get(task, task))
            baseline(right, scores, 100, f"C{i + 1}")
        right.set_xlabel("accuracy, % (higher is better)")
        if tasks:
            right.legend(fontsize="small", loc="best")
        for axis in (left, right):
            axis.grid(axis="y", color="0.92")
            axis.set_axisbelow(True)
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--command")
    args = parser.parse_args()
    out = args.out
    try:
        models = read_cells(args.cells)
    except FileNotFoundError as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 66
    except (ValueError, KeyError) as error:
        print(f"plot.py: {error!r}", file=sys.stderr)
        return 65
    tasks = tasks_of(models)
    rows = list(rows_of(models, tasks))
    out.mkdir(parents=True, exist_ok=True)
    text = "# Results\n\n"
    if args.command:
        text += f"Made by `{args.command}`.\n\n"
    text += markdown(rows) + "\n\n"
    for model, table in by_set(models):
        text += f"## {model}: perplexity over full precision, by calibration set\n\n{markdown(table)}\n\n"
    text += (
        "Values ± standard errors. `ratio` is perplexity over the model's first row; its error is that of the paired\n"
        "differences between windows. Accuracies in per cent. No error here contains the spread between calibration\n"
        "draws, which for GPTQ can be the larger one. Bits, memory and decoding speed are those of the weights as they\n"
        "were evaluated: packed codes where the cell is a packed checkpoint, dequantized floats otherwise.\n\n"
        "![perplexity and accuracy](results.png)\n")
    (out / "report.md").write_text(text, encoding="utf-8")
    write_csv(out / "results.csv", models, tasks)
    draw(models, tasks, out / "results")
    print(aligned(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
