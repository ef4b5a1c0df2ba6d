"""The page: verdicts first, then what they rest on, then the paper's figures, then all numbers."""

from report import claim_figures, tables
from report.activation_figures import ActivationFigures
from report.document import Heading, Items, Picture, Table, Text
from report.format import counted
from report.quality_figures import QualityFigures
from report.style import Palette
from report.summary import rules, summary
from report.verdicts import UNTESTED

EMBEDDED_APPENDIX = 24  # pictures of appendices D and E inside the page; the others lie beside it
FOLD_ABOVE = 10
LEAST_EFFECTS = 3  # comparisons that are worth a picture


class Page:
    def __init__(self, measures, claims, causal, studies, dead, directory):
        self.measures, self.options, self.results = measures, measures.options, measures.results
        self.claims, self.causal, self.studies, self.dead = claims, causal, studies, dead
        self.directory = directory
        self.absent = []  # (figure, reason)
        self.stems = []  # names of the figures that blocks() drew, without suffix
        self.figures = QualityFigures(measures, directory, Palette(self.results.grid.sets))

    def title(self):
        return f"Report: grid {self.results.grid.name}"

    def blocks(self):
        made = [
            Heading(self.title(), 1),
            *self.head(),
            *summary(self.claims + self.causal, self.options),
            *rules(self.options),
            *self.claim_sections(),
            *self.causal_sections(),
            *self.paper_figures(),
            *self.number_tables(),
        ]
        self.stems = [b.stem for b in made if isinstance(b, Picture)]
        return made

    # ---- head ----

    def head(self):
        states = {s: [c for c in self.results.cells if c.status == s] for s in ("done", "failed", "missing")}
        made = [
            Text(
                "Outliers and Calibration Sets have Diminishing Effect on Quantization of Modern LLMs "
                f"(arXiv 2405.20835), at the scale “{self.options.scale}”."
            )
        ]
        if self.options.caveat:
            made.append(Text(self.options.caveat, caveat=True))
        studies = sum(c.method == "activations" for c in self.results.cells)
        made.append(
            Text(
                f"{len(self.results.cells)} cells, {studies} of them activation studies: {len(states['done'])} done, "
                f"{len(states['failed'])} failed, {len(states['missing'])} missing. What is missing is a gap below."
            )
        )
        if states["failed"]:
            made.append(
                Table(
                    ["model", "method", "set", "draw", "why it failed"],
                    [[c.model, c.method, c.set or "", str(c.draw), c.reason] for c in states["failed"]],
                )
            )
        return made

    # ---- claims ----

    def claim_sections(self):
        made = []
        for claim in self.claims:
            made += [Heading(f"{claim.id}: {claim.text}", 2, claim.id), Text(f"Verdict: {claim.verdict}.")]
            made += [Text(r) for r in claim.remarks]
            models = tables.by_model(claim)
            made += [models] if len(models.rows) > 1 else []
            if claim.id == "F8":
                made += self.dead_pictures()
            made += self.parts(claim)
            if claim.id == "F3":
                spread = tables.language_spread(self.measures)
                made += [Heading("Spread over languages", 3), spread] if spread.rows else []
            if claim.id == "F6" and self.studies.numbers:
                made.append(tables.studies(self.studies, self.options))
        return made

    def parts(self, claim):
        made = []
        for i, part in enumerate(claim.parts + claim.further):
            decides = part in claim.parts
            if part.verdict == UNTESTED:
                if decides:
                    made += [Heading(part.title, 3), Text("This grid does not test it.")]
                continue
            head = part.verdict if decides else f"{part.verdict}; not part of the claim's verdict"
            made += [Heading(f"{part.title} ({head})", 3)]
            if part.note:
                made.append(Text(part.note[0].upper() + part.note[1:] + "."))
            if len([r for r in part.rows if r.effect]) >= LEAST_EFFECTS and decides:
                stem = claim_figures.forest(part, self.directory, f"{claim.id}-{i + 1}")
                if stem:
                    made.append(
                        Picture(
                            stem,
                            f"{claim.id}, {part.title}",
                            f"Effects with {100 * self.options.confidence:g} % intervals; grey: the margin. With many"
                            " sets a line has the comparisons of a model and method with all of them.",
                        )
                    )
            if part.rows:
                fold = counted(len(part.rows), "comparison") if len(part.rows) > FOLD_ABOVE or not decides else ""
                made.append(tables.comparisons(part, fold))
        return made

    def dead_pictures(self):
        made = []
        if claim_figures.dead_bars(self.dead, self.directory, "F8-sets"):
            made.append(
                Picture(
                    "F8-sets",
                    "F8: what rounding dead columns takes away",
                    "Harm of every calibration set with "
                    "dead columns deleted and rounded, and of deletion without quantization; sets sorted by their "
                    "number of dead columns.",
                )
            )
        if claim_figures.dead_scatter(self.dead, self.directory, "F8-columns"):
            made.append(
                Picture(
                    "F8-columns",
                    "F8: harm and dead columns",
                    "Every point is a calibration set; full: random characters.",
                )
            )
        return made

    def causal_sections(self):
        if not self.causal:
            return []
        made = [
            Heading("Injected outliers", 2, "outliers"),
            Text(
                "Twins compute the same function as the model that they are made of, but have outlier channels: gains "
                "(a channel of a norm times a factor, the matching columns divided by it) or offsets (a constant added "
                "to a channel of a norm's bias and subtracted behind it). Beside every row stands the control, the "
                "injected columns removed and nothing quantized: columns divided by a large factor may simply be "
                "rounded away, which is no effect of outliers. Power-of-two gains at norms are undone by SmoothQuant "
                "exactly: that row tests the code and is no evidence."
            ),
        ]
        parts = [p for c in self.causal for p in c.further if p.group == "methods"]
        if claim_figures.twins_figure(parts, self.directory, "outliers"):
            made.append(
                Picture(
                    "outliers",
                    "Harm of injected outliers by method",
                    "Perplexity of the twin over that of the "
                    "clean model under the same treatment; lines: intervals over injection seeds and windows, "
                    "where there are three seeds or more.",
                )
            )
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
            found[number] = activations.pattern_figure(number, models[2 * (number - 11) : 2 * (number - 10)])
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
        made = [
            Heading("All numbers", 2, "numbers"),
            Text(
                "Perplexity ratios ± paired standard error over windows; the interval also holds the spread between"
                " draws. Accuracies in per cent ± standard error over questions. results.csv has a line for every"
                " number, figures.csv for every value of the paper's figures with both forms of the standard error,"
                " claims.json every comparison."
            ),
        ]
        made += [tables.numbers(self.measures, model) for model in self.results.grid.models]
        noise = tables.noise(self.measures)
        if noise.rows:
            made += [
                Heading("Noise floors", 3),
                Text("Standard deviations of one result, as log perplexity in 1/100 or in points of accuracy."),
                noise,
            ]
        dead = tables.dead(self.results, self.options)
        if dead.rows:
            made += [Heading("Dead columns", 3), dead]
        health = tables.health(self.results)
        made += [Heading("Health", 3)]
        made.append(health if health.rows else Text("No linear fell back, was tried again or became non-finite."))
        return made
