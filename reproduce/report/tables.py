"""Tables of the page: comparisons, all numbers, noise floors, health of the quantizations."""

import math
import statistics

from report.activation_claims import MODULES
from report.dead_claims import dead_columns
from report.document import Table
from report.format import interval, p_value, plain, shown, size, with_error
from report.measures import Measure
from report.noise import SOURCES
from report.stats import compare
from report.verdicts import NO_DATA

COMPARISON = [
    "model",
    "method",
    "compared",
    "measure",
    "effect",
    "95 % interval",
    "items alone (bootstrap)",
    "margin",
    "noise floor",
    "p, no effect",
    "p, McNemar",
    "verdict",
    "remarks",
]


def comparisons(part, folded=""):
    rows = []
    for r in part.rows:
        if r.effect is None:
            rows.append([r.model, r.method, r.subject, r.measure, "", "", "", "", "", "", "", NO_DATA, r.note])
            continue
        tested = r.shown is None
        rows.append(
            [
                r.model,
                r.method,
                r.subject,
                r.measure,
                shown(r.value(), r.scale),
                interval(*r.interval(), r.scale),
                interval(*r.bootstrap(), r.scale) if tested and r.effect.blocks else "",
                size(r.margin, r.scale) if r.margin else "",
                size(r.floor, r.scale) if r.floor else "",
                p_value(r.p_difference) if tested else "",
                p_value(r.effect.mcnemar),
                r.verdict,
                r.note,
            ]
        )
    kept = [i for i in range(len(COMPARISON)) if i in (0, 1, 2, 3, 4, 5, 11) or any(row[i] for row in rows)]
    return Table(
        [COMPARISON[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
        tuple(kept.index(i) for i in range(4, 11) if i in kept),
        folded,
    )


def by_model(claim):
    """A row for every model, a column for every part that compares models one by one."""
    parts = [p for p in claim.parts if p.rows]
    models = list(dict.fromkeys(r.model for p in parts for r in p.rows))
    rows = [[m] + [p.of_model(m) if any(r.model == m for r in p.rows) else "" for p in parts] for m in models]
    return Table(["model"] + [f"{p.group}: {p.measure}" if p.measure else p.group for p in parts], rows)


def numbers(measures, model):
    """Every cell of a model: perplexity as a ratio to full precision with paired error and interval, accuracies."""
    o, results = measures.options, measures.results
    full = (o.methods["full_precision"], None)
    texts = [m for m, about in results.grid.metrics.items() if about["kind"] == "perplexity"]
    columns = ["method", "set", "draws"]
    for text in texts:
        columns += [text, f"{text} / {full[0]}", "95 % interval"]
    columns += [f"{t}, {o.accuracy.get(t, 'acc')}" for t in o.tasks]
    rows = []
    for method in results.grid.methods:
        for set_name in [None, *results.grid.sets]:
            if not results.planned(model, method, set_name):
                continue
            cells = results.done(model, method, set_name)
            row = [method, o.label(set_name) if set_name else "", str(len(cells)) if cells else NO_DATA]
            for text in texts:
                row += perplexity_cells(measures, model, method, set_name, text, full)
            for task in o.tasks:
                sample = measures.sample(model, method, set_name, measures.tasks[task])
                row.append(with_error(100 * sample.mean(), 100 * sample.standard_error(), 1) if sample else "")
            rows.append(row)
    return Table(columns, rows, tuple(range(2, len(columns))), f"{model}: {len(rows)} rows")


def perplexity_cells(measures, model, method, set_name, text, full):
    measure = Measure(text, (text,), True)
    sample = measures.sample(model, method, set_name, measure)
    if sample is None:
        return ["", "", ""]
    value = f"{math.exp(sample.mean()):.4g}"
    base = measures.sample(model, *full, measure) if full[0] else None
    if base is None or (method, set_name) == full:
        return [value, "1" if base is not None else "", ""]
    effect = compare(sample, base)
    ratio = math.exp(effect.estimate)
    return [
        value,
        f"{shown(effect.estimate, 'ratio')} ± {ratio * effect.item_se():.4f}",
        interval(*effect.interval(measures.options.confidence), "ratio") if effect.known else "",
    ]


def language_spread(measures):
    """Per model and method: standard deviation, lowest and highest over calibration languages, relative to full
    precision."""
    o, rows = measures.options, []
    for model in o.old + o.modern:
        for method in filter(None, (o.methods[k] for k in ("gptq", "awq", "smoothquant"))):
            for measure in measures.both():
                base = measures.sample(model, o.methods["full_precision"], None, measure)
                samples = [(s, measures.sample(model, method, s, measure)) for s in o.languages]
                values = [(sample.mean() - base.mean(), s) for s, sample in samples if sample and base]
                if len(values) > 1:
                    scale = "ratio" if measure.perplexity else "points"
                    (low, first), (high, last) = min(values), max(values)
                    rows.append(
                        [
                            model,
                            method,
                            measure.title,
                            f"{100 * statistics.stdev(v for v, _ in values):.2f}",
                            f"{plain(low, scale)} ({o.label(first)})",
                            f"{plain(high, scale)} ({o.label(last)})",
                        ]
                    )
    return Table(
        ["model", "method", "measure", "standard deviation (% or points)", "lowest", "highest"], rows, (3, 4, 5)
    )


def noise(measures):
    """Standard deviations of what should not matter, per model, method and set."""
    rows = []
    for model in measures.grid.models:
        for method in measures.grid.methods:
            for measure in measures.both():
                found = measures.noise.table(model, method, measure)
                for set_name in [s for s in measures.grid.sets if any(s in found[source] for source in SOURCES)]:
                    row = [model, method, measures.options.label(set_name), measure.title]
                    for source in SOURCES:
                        entry = found[source].get(set_name)
                        row.append(f"{100 * math.sqrt(entry[0] / entry[1]):.3f} ({entry[1]} df)" if entry else "")
                    rows.append(row)
    columns = ["model", "method", "set", "measure", "between draws", "order of windows", "perturbation"]
    return Table(columns, rows, (4, 5, 6), f"{len(rows)} standard deviations")


def health(results):
    """Cells whose quantization had to help itself, and dead columns of every cell that has any."""
    rows = []
    for cell in results.cells:
        summary = cell.health.get("summary")
        if not summary:
            continue
        damp = sorted({d for d in cell.health["linears"]["damp"] if d})
        if summary["fell_back"] or summary["retried"] or summary["nonfinite"] or len(damp) > 1:
            rows.append(
                [
                    cell.model,
                    cell.method,
                    cell.set or "",
                    str(cell.draw),
                    str(summary["fell_back"]),
                    str(summary["retried"]),
                    str(summary["nonfinite"]),
                    f"{damp[0]:g} to {damp[-1]:g}" if damp else "",
                ]
            )
    return Table(
        ["model", "method", "set", "draw", "linears that fell back", "retried", "non-finite", "damping"],
        rows,
        (3, 4, 5, 6, 7),
    )


def dead(results, options):
    """Mean dead columns per set, of cells that have any."""
    rows = []
    for model in results.grid.models:
        for method in results.grid.methods:
            for s in results.sets_of(model, method):
                count = dead_columns(results, model, method, s)
                if count:
                    rows.append([model, method, options.label(s), f"{count:g}"])
    return Table(
        ["model", "method", "set", "dead columns, all linears, mean over draws"],
        rows,
        (3,),
        f"dead columns of {len(rows)} combinations",
    )


def studies(studies_, options):
    """What F6 and F7 were judged from."""
    rows = []
    for model, sets in studies_.numbers.items():
        for set_name, modules in sets.items():
            for module, n in modules.items():
                rows.append(
                    [
                        model,
                        options.label(set_name),
                        MODULES[module],
                        f"{n['width']:.3g}",
                        f"{n['largest']:.3g}",
                        f"{n['layer'] + 1} of {n['layers']}",
                        str(n["outliers"]),
                        f"{100 * n['outside']:.3g}",
                    ]
                )
    columns = ["model", "set", "module", "central 99 % width", "largest |channel mean|", "in layer"]
    columns += ["channels above 6 sd", "% outside of the histogram"]
    return Table(columns, rows, (3, 4, 5, 6, 7), "widths and channel means of all studies")
