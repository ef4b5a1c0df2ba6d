"""The paper's claims about quality, F1 to F5. F6 and F7 are in activation_claims.py, F8 is in dead_claims.py."""

import itertools
import math
import statistics

from report.stats import contrast, difference
from report.verdicts import Claim


def of_kind(options, results, kinds):
    return [m for m in options.further if results.grid.methods[m]["method"] in kinds]


def with_seeds(options, models):
    """The models, each followed by the same trained with other seeds."""
    return [m for model in models for m in [model, *options.seeds.get(model, [])]]


def noise_sets(judge_, claim, text):
    """F1 for the paper's methods and, deciding nothing, the further ones."""
    o, results = judge_.options, judge_.results
    methods, more = [o.methods["gptq"], o.methods["awq"]], of_kind(o, results, ("gptq", "awq"))
    sets = [o.nonsense] if o.nonsense else []
    old, tasks = with_seeds(o, o.old), list(judge_.measures.tasks.values())
    by_task = (
        judge_.quality(
            "all models, nonsense by task", "tasks", "no effect", o.old + o.modern, methods, sets, measures=tasks
        )
        if len(tasks) > 1
        else []
    )
    modern_parts = judge_.quality(
        "modern models, nonsense does no harm", "no harm to modern models", "no effect", o.modern, methods, sets
    )
    old_parts = judge_.quality("old models, nonsense harms", "harm to old models", "harm", old, methods, sets)
    return Claim(
        claim,
        text,
        modern_parts + old_parts,
        [diminishing(judge_, old_parts, modern_parts)]
        + by_task
        + judge_.quality(
            "modern models, further methods", "no harm to modern models", "no effect", o.modern, more, sets
        )
        + judge_.quality("old models, further methods", "harm to old models", "harm", old, more, sets),
    )


def diminishing(judge_, old_parts, modern_parts):
    """The old model's perplexity is harmed more than each modern one's: the difference of their effects."""
    measure, rows = judge_.measures.perplexity, []
    if measure:
        pairs = itertools.product(old_parts[0].rows, modern_parts[0].rows)
        for a, b in [(a, b) for a, b in pairs if a.method == b.method]:
            effect = difference(a.effect, b.effect) if a.effect and b.effect else None
            floor = math.hypot(a.floor, b.floor)
            title = f"{a.model} / {b.model}"
            rows.append(judge_.row(title, a.method, a.subject, measure, "harm", effect, floor=floor))
    return judge_.part("old models are harmed more than modern ones", "old against modern models", rows, measure)


def content_sets(judge_, claim, text):
    o, results = judge_.options, judge_.results
    paper = [o.methods[k] for k in ("gptq", "awq", "smoothquant")]

    def parts(methods, suffix):
        return [
            judge_.part(
                f"calibrating on {s} does not raise {metric} accuracy{suffix}",
                f"{metric} after calibrating on {s}",
                [
                    judge_.against(model, method, s, judge_.measures.tasks[metric], "no gain", (method, o.baseline))
                    for model in o.old + o.modern
                    for method in methods
                ],
            )
            for s, metric in o.content.items()
            if metric in judge_.measures.tasks
        ]

    made = Claim(claim, text, parts(paper, ""), parts(of_kind(o, results, ("gptq", "awq")), ", further methods"))
    changes = {p.rows[0].measure: [r.value() for r in p.rows if r.effect] for p in made.parts if p.rows}
    changes = {measure: values for measure, values in changes.items() if len(values) > 1}
    if len(changes) > 1:
        made.remarks.append(
            "Standard deviation of the changes over models and methods, in points: "
            + ", ".join(f"{measure} {100 * statistics.stdev(values):.1f}" for measure, values in changes.items())
            + ". The paper finds that ARC-Challenge fluctuates more than PIQA."
        )
    return made


def languages(judge_, claim, text):
    o, results = judge_.options, judge_.results
    paper, more = [o.methods["gptq"], o.methods["awq"]], of_kind(o, results, ("gptq", "awq"))
    sets = list(o.languages)

    def parts(methods, suffix):
        return judge_.quality(
            f"modern models, each language like {o.baseline}{suffix}",
            "modern models",
            "no effect",
            o.modern,
            methods,
            sets,
            families=True,
        ) + [script_part(judge_, methods, measure, suffix) for measure in judge_.measures.both()]

    further = parts(more, ", further methods") if more else []
    further += judge_.quality(
        f"old models, each language worse than {o.baseline}",
        "old models",
        "harm",
        with_seeds(o, o.old),
        paper,
        sets,
        families=True,
    )
    return Claim(claim, text, parts(paper, ""), further)


def script_part(judge_, methods, measure, suffix):
    """Old models: the mean over languages in other scripts is worse than that over languages in Latin script."""
    o = judge_.options
    rows = []
    for model in with_seeds(o, o.old):
        for method in filter(None, methods):
            latin, other = (
                [judge_.measures.sample(model, method, s, measure) for s in names]
                for names in (o.latin(), o.non_latin())
            )
            if not latin or not other or not any(judge_.results.planned(model, method, s) for s in o.languages):
                continue
            effect, floor = None, 0.0
            if all(latin) and all(other):
                weights = [-1 / len(latin)] * len(latin) + [1 / len(other)] * len(other)
                effect = contrast(list(zip(weights, latin + other)))
                terms = [
                    (w, method, s, len(sample.draws))
                    for w, s, sample in zip(weights, o.latin() + o.non_latin(), latin + other)
                ]
                floor = judge_.measures.noise.floor(model, measure, terms)
            elif all(judge_.results.done(model, method, s) for s in o.languages):
                continue
            rows.append(judge_.row(model, method, "other scripts / Latin script", measure, "harm", effect, floor=floor))
    return judge_.part(
        f"old models, other scripts worse than Latin{suffix}", "old models, other scripts against Latin", rows, measure
    )


def smoothquant(judge_, claim, text):
    o = judge_.options
    sets = [s for s in judge_.results.grid.sets if s not in judge_.measures.permuted]
    return Claim(
        claim,
        text,
        judge_.quality(
            "all models, all sets alike",
            "all models",
            "no effect",
            o.old + o.modern,
            [o.methods["smoothquant"]],
            sets,
            families=True,
        ),
    )


def naive(judge_, claim, text):
    o = judge_.options
    reference = (o.methods["full_precision"], None)

    def parts(title, group, kind, models, measures):
        return [
            judge_.part(
                title,
                group,
                [judge_.against(m, o.methods["naive"], None, measure, kind, reference) for m in models],
                measure,
            )
            for measure in measures
        ]

    if reference[0] is None:
        return Claim(claim, text, [])
    both, tasks = judge_.measures.both(), list(judge_.measures.tasks.values())
    return Claim(
        claim,
        text,
        parts("modern models, nothing lost", "no harm to modern models", "no effect", o.modern, both)
        + parts("old models, harmed", "harm to old models", "harm", o.old, both),
        parts("all models, by task", "tasks", "no effect", o.old + o.modern, tasks) if len(tasks) > 1 else [],
    )


def quality_claims(judge_):
    return [
        noise_sets(
            judge_,
            "F1",
            "The quality of calibration text does not matter to modern models; the old model is clearly "
            "worse when calibrated on nonsense, with GPTQ and AWQ.",
        ),
        content_sets(judge_, "F2", "Calibrating on a task's own questions gives no significant gain on that task."),
        languages(
            judge_,
            "F3",
            "The language of calibration text does not matter to modern models; the old model "
            "degrades mostly on scripts other than Latin, with GPTQ and AWQ.",
        ),
        smoothquant(judge_, "F4", "With SmoothQuant W8A8 all calibration sets are alike, for the old model too."),
        naive(judge_, "F5", "Naive W8A8 hurts only the old model."),
    ]
