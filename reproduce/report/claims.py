"""The paper's claims about quality, F1 to F5. F6 and F7 are in activation_claims.py, F8 is in dead_claims.py."""
import math
import statistics

from report.stats import contrast
from report.verdicts import Claim, Part, Row, judge


class Judge:
    """Makes rows of comparisons, and parts of rows."""

    def __init__(self, measures, options):
        self.measures, self.options, self.results = measures, options, measures.results
        self.margins = {True: math.log1p(options.perplexity_margin), False: options.accuracy_margin}

    def row(self, model, method, subject, measure, kind, effect, draws=(1, 1), family="", note="", floor=None):
        """`effect` in natural direction, or None. `floor`: of the method's noise between two means over `draws`."""
        if floor is None:
            floor = self.measures.floor(model, method, measure, draws)
        return Row(model, method, subject, measure.title, "ratio" if measure.perplexity else "points", kind,
                   effect and measure.harm(effect), 1.0 if measure.perplexity else -1.0,
                   self.margins[measure.perplexity], floor, self.options.confidence, family, note=note)

    def against(self, model, method, set_name, measure, kind, reference, family=""):
        """Row of a set (None: a method without calibration) against `reference`, a (method, set) of the same model.
        None if the grid has no such cells, or not this metric."""
        r = self.results
        if method is None or not (r.planned(model, method, set_name) and r.planned(model, *reference)):
            return None
        a, b = (self.measures.sample(model, *cell, measure) for cell in ((method, set_name), reference))
        if a and b:
            effect = contrast([(1.0, a), (-1.0, b)])
            return self.row(model, method, self.versus(set_name, reference, method), measure, kind, effect,
                            (len(a.draws), len(b.draws)), family)
        finished = [r.done(model, *cell) for cell in ((method, set_name), reference)]
        if all(finished):
            return None  # computed, but the grid does not ask for this metric there
        return self.row(model, method, self.versus(set_name, reference, method), measure, kind, None)

    def versus(self, set_name, reference, method):
        against = reference[1] if reference[0] == method else reference[0]
        return f"{self.options.label(set_name)} / {self.options.label(against)}" if set_name else f"/ {against}"

    def part(self, title, group, rows, measure=None):
        """Part of those rows that are not None. `measure`: where a group has a part for each measure."""
        rows = [r for r in rows if r is not None]
        judge(rows)
        short = "" if measure is None else "perplexity" if measure.perplexity else "accuracy"
        return Part(title + (f": {measure.title}" if measure else ""), group, rows, measure=short)

    def quality(self, title, group, kind, models, methods, sets, families=False):
        """One part a measure: sets against the baseline."""
        parts = []
        for measure in self.measures.both():
            rows = [self.against(model, method, s, measure, kind, (method, self.options.baseline),
                                 f"{model}/{method}/{measure.title}" if families and s in self.options.languages else "")
                    for model in models for method in methods for s in sets if s != self.options.baseline]
            parts.append(self.part(title, group, rows, measure))
        return parts


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
    old = with_seeds(o, o.old)
    return Claim(claim, text,
                 judge_.quality("modern models, nonsense does no harm", "no harm to modern models", "no effect", o.modern, methods, sets)
                 + judge_.quality("old models, nonsense harms", "harm to old models", "harm", old, methods, sets),
                 judge_.quality("modern models, further methods", "no harm to modern models", "no effect", o.modern, more, sets)
                 + judge_.quality("old models, further methods", "harm to old models", "harm", old, more, sets))


def content_sets(judge_, claim, text):
    o, results = judge_.options, judge_.results
    paper = [o.methods[k] for k in ("gptq", "awq", "smoothquant")]

    def parts(methods, suffix):
        return [judge_.part(f"calibrating on {s} does not raise {metric} accuracy{suffix}", f"{metric} after calibrating on {s}",
                            [judge_.against(model, method, s, judge_.measures.tasks[metric], "no gain",
                                            (method, o.baseline))
                             for model in o.old + o.modern for method in methods])
                for s, metric in o.content.items() if metric in judge_.measures.tasks]

    made = Claim(claim, text, parts(paper, ""), parts(of_kind(o, results, ("gptq", "awq")), ", further methods"))
    changes = {p.rows[0].measure: [r.value() for r in p.rows if r.effect] for p in made.parts if p.rows}
    changes = {measure: values for measure, values in changes.items() if len(values) > 1}
    if len(changes) > 1:
        made.remarks.append("Standard deviation of the changes over models and methods, in points: " + ", ".join(
            f"{measure} {100 * statistics.stdev(values):.1f}" for measure, values in changes.items())
            + ". The paper finds that ARC-Challenge fluctuates more than PIQA.")
    return made


def languages(judge_, claim, text):
    o, results = judge_.options, judge_.results
    paper, more = [o.methods["gptq"], o.methods["awq"]], of_kind(o, results, ("gptq", "awq"))
    sets = list(o.languages)

    def parts(methods, suffix):
        return (judge_.quality(f"modern models, each language like {o.baseline}{suffix}", "modern models", "no effect", o.modern,
                               methods, sets, families=True)
                + [script_part(judge_, methods, measure, suffix) for measure in judge_.measures.both()])

    further = parts(more, ", further methods") if more else []
    further += judge_.quality(f"old models, each language worse than {o.baseline}", "old models", "harm",
                              with_seeds(o, o.old), paper, sets, families=True)
    return Claim(claim, text, parts(paper, ""), further)


def script_part(judge_, methods, measure, suffix):
    """Old models: the mean over languages in other scripts is worse than that over languages in Latin script."""
    o = judge_.options
    rows = []
    for model in with_seeds(o, o.old):
        for method in filter(None, methods):
            latin, other = ([judge_.measures.sample(model, method, s, measure) for s in names]
                            for names in (o.latin(), o.non_latin()))
            if not latin or not other or not any(judge_.results.planned(model, method, s) for s in o.languages):
                continue
            effect = None
            if all(latin) and all(other):
                effect = contrast([(1 / len(other), s) for s in other] + [(-1 / len(latin), s) for s in latin])
            elif all(judge_.results.done(model, method, s) for s in o.languages):
                continue
            rows.append(judge_.row(model, method, "other scripts / Latin script", measure, "harm", effect,
                                   (len(other), len(latin))))
    return judge_.part(f"old models, other scripts worse than Latin{suffix}", "old models, other scripts against Latin",
                       rows, measure)


def smoothquant(judge_, claim, text):
    o = judge_.options
    sets = [s for s in judge_.results.grid.sets if s not in judge_.measures.permuted]
    return Claim(claim, text, judge_.quality("all models, all sets alike", "all models", "no effect", o.old + o.modern,
                                             [o.methods["smoothquant"]], sets, families=True))


def naive(judge_, claim, text):
    o = judge_.options
    reference = (o.methods["full_precision"], None)

    def parts(title, group, kind, models):
        return [judge_.part(title, group,
                            [judge_.against(m, o.methods["naive"], None, measure, kind, reference) for m in models],
                            measure)
                for measure in judge_.measures.both()]

    if reference[0] is None:
        return Claim(claim, text, [])
    return Claim(claim, text, parts("modern models, nothing lost", "no harm to modern models", "no effect", o.modern)
                 + parts("old models, harmed", "harm to old models", "harm", o.old))


def quality_claims(judge_):
    return [
        noise_sets(judge_, "F1", "The quality of calibration text does not matter to modern models; the old model is clearly "
                   "worse when calibrated on nonsense, with GPTQ and AWQ."),
        content_sets(judge_, "F2", "Calibrating on a task's own questions gives no significant gain on that task."),
        languages(judge_, "F3", "The language of calibration text does not matter to modern models; the old model "
                  "degrades mostly on scripts other than Latin, with GPTQ and AWQ."),
        smoothquant(judge_, "F4", "With SmoothQuant W8A8 all calibration sets are alike, for the old model too."),
        naive(judge_, "F5", "Naive W8A8 hurts only the old model."),
    ]
