#!/usr/bin/env python3
"""Prints the table of docs/reproduce.md: what each choice that the paper leaves open changes.

    ptq run reproduce/grids/choices.toml --store DIR
    reproduce/choices.py DIR [--ptq build/ptq] [--grid FILE]

A number is the mean over the draws of a set of perplexity over that of full precision, in per cent above 1, with the
standard deviation between draws. Standard library only.
"""
import argparse
import collections
import csv
import io
import math
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]


def rows(ptq, grid, store):
    table = subprocess.run([ptq, "collect", grid, "--store", store, "--csv", "-"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    return list(csv.DictReader(io.StringIO(table)))


def losses(table):
    """(model, method, set) -> per cent of perplexity above full precision, one for each draw."""
    whole = {row["model"]: float(row["value"]) for row in table if row["method"] == "FP32" and row["value"]}
    found = collections.OrderedDict()
    for row in table:
        if row["method"] != "FP32" and row["value"]:
            ratio = float(row["value"]) / whole[row["model"]]
            found.setdefault((row["model"], row["method"], row["set"]), []).append(100 * (ratio - 1))
    return found


def cell(values):
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    digits = 2 if math.fabs(statistics.mean(values)) < 100 else 0
    return f"{round(statistics.mean(values), digits) + 0.0:.{digits}f}{spread}"  # + 0.0: no -0.00


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--ptq", default=str(ROOT / "build" / "ptq"))
    parser.add_argument("--grid", default=str(ROOT / "reproduce" / "grids" / "choices.toml"))
    args = parser.parse_args()
    found = losses(rows(args.ptq, args.grid, args.store))
    models = list(dict.fromkeys(model for model, _, _ in found))
    methods = list(dict.fromkeys(method for _, method, _ in found))
    sets = [s for s in dict.fromkeys(s for _, _, s in found) if s]

    columns = [(model, s) for model in models for s in ("mixed", "nonsense")]
    print("| choice | " + " | ".join(f"{model}, {s}" for model, s in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for method in methods:
        # A method without calibration has one number a model.
        values = [found.get((model, method, s), found.get((model, method, ""), [])) for model, s in columns]
        print(f"| {method} | " + " | ".join(map(cell, values)) + " |")
    print()
    others = [s for s in sets if s not in ("mixed", "nonsense")]
    columns = [(model, method) for model in models for method in ("GPTQ", "AWQ", "SmoothQuant")]
    print("| calibration | " + " | ".join(f"{model}, {method}" for model, method in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for s in ["mixed"] + others:
        print(f"| {s} | " + " | ".join(cell(found.get((model, method, s))) for model, method in columns) + " |")


if __name__ == "__main__":
    main()
