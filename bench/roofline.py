#!/usr/bin/env python3
"""The roofline plot of a `ptq bench --csv FILE`: rate against arithmetic intensity, under what the device can do.

    roofline.py FIGURES.csv OUT.svg|OUT.png|OUT.pdf [--filter TEXT] [--peak bf16=989 ...] [--bandwidth 4800]

A point is a case: FLOP per byte that it has to read and write at least, and FLOP/s that it reached. The slope is the
memory's bandwidth, the ceilings are the arithmetic's peaks by type. Without --bandwidth (GB/s) the slope is that of the
copy that the bench timed; without --peak (TFLOP/s, or Top/s for s8) a ceiling is the datasheet's where the bench knows
the device, else the best rate of the run, drawn dotted. Cases that count no FLOP are left out. docs/profiling.md says
how to read it.
"""
import argparse
import collections
import csv
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

NAMES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32", "int8": "s8"}
MARKERS = "osD^vP*Xp<>hd"
COLUMNS = {"op", "shape", "us", "gb_per_s", "of_copy", "tflops", "of_peak", "of_best", "flops", "bytes", "arithmetic",
           "device"}


def fail(message):
    sys.exit(f"roofline.py: {message}")


def read(path, text):
    """The rows that count FLOP and have `text` in their name."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = COLUMNS - set(reader.fieldnames or [])
            if missing:
                fail(f"{path}: no column {sorted(missing)[0]}; is it of ptq bench --csv?")
            rows = list(reader)
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    rows = [r for r in rows if r["tflops"] and text in f"{r['op']} | {r['shape']}"]
    if not rows:
        fail(f"{path}: no case that counts FLOP has {text!r} in its name")
    return rows


def ceilings(rows, given):
    """Type -> (TFLOP/s, where it comes from)."""
    found = {}
    for r in rows:
        kind, rate = NAMES[r["arithmetic"]], float(r["tflops"])
        if r["of_peak"]:
            found[kind] = rate / float(r["of_peak"]), "datasheet"
        elif found.get(kind, (0, ""))[1] != "datasheet":
            found[kind] = rate / float(r["of_best"]), "best of the run"
    return found | {kind: (rate, "given") for kind, rate in given.items() if kind in found}


def peaks(words):
    given = {}
    for word in words:
        kind, _, rate = word.partition("=")
        try:
            given[kind] = float(rate)
        except ValueError:
            fail(f"--peak {word}: expected TYPE=RATE, such as bf16=989")
        if kind not in NAMES.values():
            fail(f"--peak {word}: the types are {', '.join(NAMES.values())}")
    return given


def draw(rows, roofs, bandwidth, source, out):
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    x = [float(r["flops"]) / float(r["bytes"]) for r in rows]
    left, right = min(x) / 2, max(max(x) * 2, 2 * max(rate for rate, _ in roofs.values()) * 1e3 / bandwidth)
    top = max(rate for rate, _ in roofs.values())
    ridge = top * 1e3 / bandwidth  # FLOP per byte from which the highest ceiling is in reach
    axes.plot([left, ridge], [left * bandwidth / 1e3, top], color="black", lw=1)
    axes.annotate(f"{bandwidth:,.0f} GB/s ({source})", (left, left * bandwidth / 1e3), fontsize=8,
                  textcoords="offset points", xytext=(6, -4))
    kinds = collections.defaultdict(list)  # types may share a ceiling
    for kind, roof in roofs.items():
        kinds[roof].append(kind)
    for (rate, origin), names in kinds.items():
        axes.plot([rate * 1e3 / bandwidth, right], [rate, rate], color="black", lw=1,
                  ls=":" if origin.startswith("best") else "-")
        axes.annotate(f"{', '.join(names)} {rate:.3g} T ({origin})", (right, rate), ha="right", fontsize=8,
                      textcoords="offset points", xytext=(0, 3))
    groups = collections.defaultdict(list)
    for r, intensity in zip(rows, x):
        groups[r["op"]].append((intensity, float(r["tflops"])))
    colors = plt.get_cmap("tab20").colors
    for i, (op, points) in enumerate(groups.items()):
        axes.plot(*zip(*points), MARKERS[i % len(MARKERS)], color=colors[i % len(colors)], label=op, ms=5, alpha=0.85)
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="FLOP per byte (at least)", ylabel="TFLOP/s",
             title=rows[0]["device"])
    axes.grid(which="major", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8, frameon=False)
    figure.savefig(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--filter", default="", help="only cases whose \"op | shape\" contains this")
    parser.add_argument("--peak", action="append", default=[], metavar="TYPE=RATE",
                        help="TFLOP/s of bf16, f16, f32, s8")
    parser.add_argument("--bandwidth", type=float, help="GB/s of the memory")
    args = parser.parse_args()
    if args.out.suffix not in (".svg", ".png", ".pdf"):
        fail(f"{args.out}: the plot is .svg, .png or .pdf")
    if args.bandwidth is not None and not args.bandwidth > 0:
        fail(f"--bandwidth {args.bandwidth}: expected a positive number of GB/s")
    rows = read(args.figures, args.filter)
    copy = float(rows[0]["gb_per_s"]) / float(rows[0]["of_copy"])
    roofs = ceilings(rows, peaks(args.peak))
    bandwidth, source = (args.bandwidth, "given") if args.bandwidth else (copy, "copy")
    try:
        draw(rows, roofs, bandwidth, source, args.out)
    except OSError as error:
        fail(f"{args.out}: {error.strerror}")


if __name__ == "__main__":
    main()
