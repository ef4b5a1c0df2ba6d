"""Files of a report beside the page, and the stamp that says what they were made from."""

import csv
import hashlib
import json
import math
import pathlib

import matplotlib
import numpy
import scipy

STAMP = "report.json"


def rounded(value):
    """To 10 digits, so that no library's order of summation shows; not finite: as text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return float(f"{value:.10g}") if math.isfinite(value) else str(value)


def row_json(row):
    made = {
        "model": row.model,
        "method": row.method,
        "compared": row.subject,
        "measure": row.measure,
        "kind": row.kind,
        "verdict": row.verdict,
        "remarks": row.note,
    }
    if row.effect is None:
        return made
    low, high = row.interval()
    made.update(
        {
            "scale": row.scale,
            "value": rounded(row.value()),
            "low": rounded(low),
            "high": rounded(high),
            "margin": rounded(row.margin),
            "noise_floor": rounded(row.floor),
            "p_beyond": rounded(row.p_beyond),
        }
    )
    if row.shown is None:
        made.update(
            {
                "standard_error": rounded(row.effect.se),
                "df": rounded(row.effect.df),
                "p_no_effect": rounded(row.p_difference),
                "p_mcnemar": rounded(row.effect.mcnemar),
            }
        )
        if row.effect.blocks:
            made["bootstrap"] = [rounded(v) for v in row.bootstrap()]
    return made


def part_json(part):
    return {
        "title": part.title,
        "verdict": part.verdict,
        "note": part.note,
        "models": {m: part.of_model(m) for m in dict.fromkeys(r.model for r in part.rows)},
        "comparisons": [row_json(r) for r in part.rows],
    }


def claims_json(grid, options, claims):
    """Effects are log ratios of perplexity and differences of accuracy."""
    made = {
        "grid": grid.name,
        "scale": options.scale,
        "baseline": grid.baseline,
        "confidence": options.confidence,
        "margins": {
            "perplexity": options.perplexity_margin,
            "accuracy": options.accuracy_margin,
            "width": options.width_margin,
        },
        "claims": [
            {
                "id": c.id,
                "claim": c.text,
                "verdict": c.verdict,
                "parts": [part_json(p) for p in c.parts],
                "further": [part_json(p) for p in c.further],
            }
            for c in claims
        ],
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def write_figures_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "model", "set", "baseline", "value", "stderr_simple", "stderr_full", "draws"])
        for row in rows:
            writer.writerow(["" if v is None else rounded(v) for v in row])


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def inputs_digest(rows):
    """Of everything that the report depends on: the grid and outcomes as `ptq collect` gives them, this code, the
    libraries that draw. Not of what differs between two runs of a cell."""
    digest = hashlib.sha256()
    for line in rows:
        row = json.loads(line)
        result = row.pop("result", None) or {}
        row["outcome"] = result.get("outcome_sha256", "")
        digest.update(json.dumps(row, sort_keys=True).encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    versions = [matplotlib.__version__, numpy.__version__, scipy.__version__]
    digest.update(json.dumps(versions).encode())
    return digest.hexdigest()


def up_to_date(out, inputs):
    """True if `out` holds a report from these inputs with every file as it was written."""
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
        return stamp["inputs"] == inputs and all(sha256((out / n).read_bytes()) == d for n, d in stamp["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def remove_former(out):
    """Removes the figures of the report that `out` holds, and nothing else."""
    try:
        files = list(json.loads((out / STAMP).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in files:
        if name.startswith("figures/") and "/" not in name.removeprefix("figures/"):
            (out / name).unlink(missing_ok=True)


def write_stamp(out, inputs, files):
    """`files`: names relative to `out`."""
    stamp = {"inputs": inputs, "files": {n: sha256((out / n).read_bytes()) for n in sorted(files)}}
    (out / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
