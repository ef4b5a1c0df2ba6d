"""The page: verdicts first, then what they rest on, then the paper's figures, then all numbers."""
from report import claim_figures, tables
from report.activation_claims import numbers_table
from report.activation_figures import ActivationFigures
from report.document import Heading, Items, Picture, Table, Text
from report.format import plain
from report.quality_figures import QualityFigures
from report.style import Palette
from report.verdicts import UNTESTED

EMBEDDED_APPENDIX = 24  # pictures of appendices D and E inside the page; the others lie beside it
FOLD_ABOVE = 10
LEAST_EFFECTS = 3       # comparisons that are worth a picture


class Page:
    def __init__(self, measures, claims, causal, studies, dead, directory):
        self.measures, self.options, self.results = measures, measures.options, measures.results
        self.claims, self.causal, self.studies, self.dead = claims, causal, studies, dead
        self.directory = directory
        self.absent = []  # (figure, reason)
        self.stems = []   # names of the figures that blocks() drew, without suffix
        self.figures = QualityFigures(measures, directory, Palette(self.results.grid.sets))

    def title(self):
        return f"Report: grid {self.results.grid.name}"

    def blocks(self):
        made = [Heading(self.title(), 1), *self.head(), *self.summary(), *self.rules(), *self.claim_sections(),
                *self.causal_sections(), *self.paper_figures(), *self.number_tables()]
        self.stems = [b.stem for b in made if isinstance(b, Picture)]
        return made

    # ---- head ----

    def head(self):
        states = {s: [c for c in self.results.cells if c.status == s] for s in ("done", "failed", "missing")}
        made = [Text("Outliers and Calibration Sets have Diminishing Effect on Quantization of Modern LLMs "
                     f"(arXiv 2405.20835), at the scale “{self.options.scale}”.")]
        if self.options.caveat:
            made.append(Text(self.options.caveat, caveat=True))
        studies = sum(c.method == "activations" for c in self.results.cells)
        made.append(Text(f"{len(self.results.cells)} cells, {studies} of them activation studies: {len(states['done'])} done, "
                         f"{len(states['failed'])} failed, {len(states['missing'])} missing. What is missing is a gap below."))
        if states["failed"]:
            made.append(Table(["model", "method", "set", "draw", "why it failed"],
                              [[c.model, c.method, c.set or "", str(c.draw), c.reason] for c in states["failed"]]))
        return made

    def summary(self):
        rows = [[c.id, c.text, c.verdict, sentence(c)] for c in self.claims + self.causal]
        return [Heading("Verdicts", 2, "verdicts"), Table(["", "claim", f"verdict at scale {self.options.scale}", "measured"],
                                                          rows)]

    def rules(self):
        o = self.options
        percent = f"{100 * o.confidence:g} %"
        tests = f"{100 * (2 * o.confidence - 1):g} %"
        return [Heading("How verdicts are made", 2, "rules"), Items([
            f"Margins, stated in the grid file: perplexity {100 * o.perplexity_margin:g} %, accuracy "
            f"{100 * o.accuracy_margin:g} points; F6 and F7 {100 * o.width_margin:g} %.",
            "An effect on perplexity is the log of the ratio to the baseline, on accuracy the difference. Both are paired by "
            "evaluation window or question. The variance is that of the paired differences plus that between the calibration "
            "draws of both sets (Welch-Satterthwaite degrees of freedom, t intervals). A set with one draw takes the spread "
            "that the same method has between draws of other sets; the remarks say so. Without any known spread a comparison "
            "stays undecided.",
            f"“No effect” is supported if two one-sided tests put the effect inside the margin (the {tests} interval is "
            f"inside), contradicted if the {percent} interval is beyond the margin and beyond the noise floor, else undecided.",
            f"“Harm” is supported if the {percent} interval is beyond margin and noise floor, contradicted if harm of a "
            f"margin is excluded (upper end of the {tests} interval), else undecided. “No gain” is the same about gains.",
            "The noise floor is 1.96 standard deviations of a difference by what should not matter: calibration draws, order "
            "of windows, perturbations of rounding's size, whichever is largest.",
            "Comparisons over languages of one model and method are Holm-corrected for calling any of them an effect. Calling "
            "all of them equivalent needs no correction.",
            "A claim is contradicted if one of its comparisons is, supported if all are, else undecided. Where a claim "
            "asserts an effect, perplexity or accuracy is enough. What this grid does not test is left out and said. Further "
            "methods and parts so named decide nothing.",
            "The second interval is a percentile bootstrap over windows or questions alone. McNemar's exact test is given "
            "for pairs of single draws of one task."])]

    # ---- claims ----

    def claim_sections(self):
        made = []
        for claim in self.claims:
            made += [Heading(f"{claim.id}: {claim.text}", 2, claim.id), Text(f"Verdict: {claim.verdict}.")]
            made += [Text(r) for r in claim.remarks]
            if claim.id == "F8":
                made += self.dead_pictures()
            made += self.parts(claim)
            if claim.id == "F3":
                spread = tables.language_spread(self.measures)
                made += [Heading("Spread over languages", 3), spread] if spread.rows else []
            if claim.id == "F6" and self.studies.numbers:
                made.append(Table(["model", "set", "module", "central 99 % width", "largest |channel mean|", "in layer",
                                   "channels above 6 sd", "% outside of the histogram"],
                                  list(numbers_table(self.studies, self.options)), (3, 4, 5, 6, 7),
                                  "widths and channel means of all studies"))
        return made

    def parts(self, claim):
        made = []
        for i, part in enumerate(claim.parts + claim.further):
            decides = part in claim.parts
            if part.verdict == UNTESTED:
                if decides:
                    made += [Heading(part.title, 3), Text("This grid does not test it.")]
                continue
            head = part.verdict if decides else "decides nothing"
            made += [Heading(f"{part.title} ({head})", 3)]
            if part.note:
                made.append(Text(part.note))
            if len([r for r in part.rows if r.effect]) >= LEAST_EFFECTS and decides:
                stem = claim_figures.forest(part, self.directory, f"{claim.id}-{i + 1}")
                if stem:
                    made.append(Picture(stem, f"{claim.id}, {part.title}",
                                        f"Effects with {100 * self.options.confidence:g} % intervals; grey: the margin. With many sets a line has "
                                        "the comparisons of a model and method with all of them."))
            if part.rows:
                fold = f"{len(part.rows)} comparisons" if len(part.rows) > FOLD_ABOVE or not decides else ""
                made.append(tables.comparisons(part, fold))
        return made

    def dead_pictures(self):
        made = []
        if claim_figures.dead_bars(self.dead, self.directory, "F8-sets"):
            made.append(Picture("F8-sets", "F8: what rounding dead columns takes away", "Harm of every calibration set with "
                                "dead columns deleted and rounded, and of deletion without quantization; sets sorted by their "
                                "number of dead columns."))
        if claim_figures.dead_scatter(self.dead, self.directory, "F8-columns"):
            made.append(Picture("F8-columns", "F8: harm and dead columns", "Every point is a calibration set."))
        return made

    def causal_sections(self):
        if not self.causal:
            return []
        made = [Heading("Injected outliers", 2, "outliers"),
                Text("Twins compute the same function as the model that they are made of, but have outlier channels: gains "
                     "(a channel of a norm times a factor, the matching columns divided by it) or offsets (a constant added "
                     "to a channel of a norm's bias and subtracted behind it). Beside every row stands the control, the "
                     "injected columns removed and nothing quantized: columns divided by a large factor may simply be "
                     "rounded away, which is no effect of outliers. Power-of-two gains at norms are undone by SmoothQuant "
                     "exactly: that row tests the code and is no evidence.")]
        parts = [p for c in self.causal for p in c.further if p.group == "methods"]
        if claim_figures.twins_figure(parts, self.options, self.directory, "outliers"):
            made.append(Picture("outliers", "Harm of injected outliers by method", "Perplexity of the twin over that of the "
                                "clean model under the same treatment; lines: intervals over injection seeds and windows, "
                                "where there are several seeds."))
        for claim in self.causal:
            made += [Heading(f"{claim.id}: {claim.text}", 3), Text(f"Verdict: {claim.verdict}."), *self.parts(claim)]
        return made

    # ---- the paper's figures ----

    def paper_figures(self):
        found = {}
        for plan in self.figures.plans():
            found[int(plan.number)] = self.figures.draw_bars(plan)
        for number, role in ((5, "gptq"), (6, "awq"), (7, "smoothquant")):
            found[number] = self.figures.draw_languages(number, role)
        activations = ActivationFigures(self.results, self.options, self.directory)
        found[10] = activations.figure10()
        models = activations.models
        for number in (11, 12, 13):
            found[number] = activations.pattern_figure(number, models[2 * (number - 11):2 * (number - 10)])
        made = [Heading("The paper's figures", 2, "figures")]
        for number in sorted(found):
            if isinstance(found[number], str):
                self.absent.append((f"Figure {number}", found[number]))
            else:
                made.append(Picture(*found[number]))
        appendix = [p for m in models for p in activations.appendix_d(m)] + activations.appendix_e()
        if not appendix:
            self.absent.append(("Appendices D and E", "no activation study"))
        made += [Picture(*p, embedded=i < EMBEDDED_APPENDIX) for i, p in enumerate(appendix)]
        if self.absent:
            made += [Heading("Figures without data", 3), Items([f"{name}: {why}." for name, why in self.absent])]
        return made

    # ---- numbers ----

    def number_tables(self):
        made = [Heading("All numbers", 2, "numbers"),
                Text("Perplexity ratios ± paired standard error over windows; the interval also holds the spread between draws. "
                     "Accuracies in per cent ± standard error over questions. results.csv has a line for every number, "
                     "figures.csv for every value of the paper's figures with both forms of the standard error, claims.json "
                     "every comparison.")]
        made += [tables.numbers(self.measures, model) for model in self.results.grid.models]
        noise = tables.noise(self.measures)
        if noise.rows:
            made += [Heading("Noise floors", 3), Text("Standard deviations of one result, as log perplexity in 1/100 or in "
                                                      "points of accuracy."), noise]
        dead = tables.dead(self.results, self.options)
        if dead.rows:
            made += [Heading("Dead columns", 3), dead]
        health = tables.health(self.results)
        made += [Heading("Health", 3)]
        made.append(health if health.rows else Text("No linear fell back, was tried again or became non-finite."))
        return made


def sentence(claim):
    """What a claim's verdict rests on: for every group of parts its verdicts and largest effects."""
    if claim.verdict == UNTESTED:
        return "This grid has no cells that would test it."
    said = []
    for group in dict.fromkeys(p.group for p in claim.parts):
        parts = [p for p in claim.parts if p.group == group]
        tested = [p for p in parts if p.verdict != UNTESTED]
        if not tested:
            said.append(f"{group}: {UNTESTED}")
            continue
        said.append(f"{group}: " + ", ".join(" ".join(filter(None, [p.measure, p.verdict, in_brackets(p)]))
                                             for p in tested))
    return "; ".join(said)[:1].upper() + "; ".join(said)[1:] + "."


def in_brackets(part):
    """How many comparisons have which verdict, if they differ, and the largest effect."""
    counts = {v: n for v, n in part.counts().items() if n}
    of = " of ".join([str(counts.get(part.verdict, 0)), f"{len(part.rows)} comparisons"]) if len(counts) > 1 else ""
    text = "; ".join(filter(None, [of, largest(part)]))
    return f"({text})" if text else ""


def largest(part):
    """The row of the largest effect, as a text; "" without one."""
    rows = [r for r in part.rows if r.effect]
    if not rows:
        return part.note.rstrip(".")
    row = max(rows, key=lambda r: abs(r.value()))
    about = f"{row.model}, {row.method}" + (f", {row.subject}" if len({r.subject for r in rows}) > 1 else "")
    return f"{'at most ' if len(rows) > 1 else ''}{plain(row.value(), row.scale)} for {about}"
