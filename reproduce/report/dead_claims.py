"""F8: is it the deletion of columns that calibration never exercised that harms the old model?

GPTQ and AWQ delete an input channel's column where calibration never saw the channel active ("dead"); --dead rtn rounds
it instead. If deletion is the cause, rounding takes the harm of nonsense away, deletion without any quantization does
the same harm, harm grows with the number of dead columns, and models without dead columns have none of it.
"""

import dataclasses
import math

import scipy.stats

from report.claims import with_seeds
from report.stats import Effect, compare, contrast, mean_effect, share_interval
from report.verdicts import CONTRADICTED, NO_DATA, SUPPORTED, UNDECIDED, UNTESTED, Claim, Part, combine


def dead_columns(results, model, method, set_name):
    """Mean over draws of the dead columns of all linears; None without results."""
    counts = [c.health.get("summary", {}).get("dead_columns", 0) for c in results.done(model, method, set_name)]
    return sum(counts) / len(counts) if counts else None


class DeadColumns:
    def __init__(self, judge):
        self.judge, self.options, self.results = judge, judge.options, judge.results
        self.measure = judge.measures.perplexity
        self.old = with_seeds(self.options, self.options.old)

    def sample(self, model, method, set_name):
        return self.judge.measures.sample(model, method, set_name, self.measure)

    def share_row(self, model, method, sets, whole, rest, note=""):
        """Row: share of `whole` that is gone in `rest` (lists of terms paired by draw), against options.dead_share."""
        least = self.options.dead_share
        effect = contrast([(w, a.times(1 - least).minus(b)) for (w, a), (_, b) in zip(whole, rest)])
        shown = share_interval(whole, rest, self.options.confidence)
        if math.isinf(shown[1]):
            effect = dataclasses.replace(effect, known=False, notes=effect.notes + ("no harm to take a share of",))
        row = self.judge.row(model, method, sets, self.measure, "harm", effect, note=note)
        row.scale, row.shown, row.margin = "share", shown, 0.0
        return row

    def policy_rows(self, zero, rtn, set_name):
        """Share of the harm of `set_name` that goes away when dead columns are rounded."""
        rows, base = [], self.options.baseline
        for model in self.old:
            cells = [self.sample(model, m, s) for m in (zero, rtn) for s in (set_name, base)]
            title = f"{self.options.label(set_name)} / {base}"
            if all(cells):
                a, b, c, d = cells
                rows.append(
                    self.share_row(model, f"{zero} -> {rtn}", title, [(1.0, a), (-1.0, b)], [(1.0, c), (-1.0, d)])
                )
            elif self.results.planned(model, rtn, set_name) and not self.results.done(model, rtn, set_name):
                rows.append(self.judge.row(model, f"{zero} -> {rtn}", title, self.measure, "harm", None))
        return self.over_seeds(rows)

    def over_seeds(self, rows):
        """The rows, and one for their mean share over training seeds: a t interval over seeds."""
        there = [r for r in rows if r.effect]
        if len(there) < 2:
            return rows
        note = f"t interval over {len(there)} training seeds"
        shares = mean_effect([r.shown[0] for r in there], "")
        above = mean_effect([r.shown[0] - self.options.dead_share for r in there], note)
        row = dataclasses.replace(
            there[0],
            model=f"mean of {len(there)} training seeds",
            effect=above,
            note="",
            shown=(shares.estimate, *shares.interval(self.options.confidence)),
        )
        return rows + [row]

    def deletion_rows(self, method):
        """Deleting what is dead on nonsense, nothing quantized, as a share of what the method does."""
        delete, base, bad = self.options.methods["deletion"], self.options.baseline, self.options.nonsense
        rows = []
        for model in self.old if delete else []:
            cells = [self.sample(model, m, s) for m in (method, delete) for s in (bad, base)]
            if all(cells):
                a, b, c, d = cells
                rows.append(
                    self.share_row(
                        model,
                        f"{delete}, of {method}",
                        f"{bad} / {base}",
                        [(1.0, a), (-1.0, b)],
                        [(1.0, a.minus(c)), (-1.0, b.minus(d))],
                    )
                )
        return self.over_seeds(rows)

    def harm_of_deletion(self):
        o = self.options
        reference = (o.methods["full_precision"], None)
        return [
            self.judge.against(m, o.methods["deletion"], o.nonsense, self.measure, "harm", reference)
            for m in self.old
            if reference[0]
        ]

    def points(self, model, method):
        """[(set, dead columns, Effect against the baseline)], counts as means over draws; permuted sets are left out."""
        base, found = self.sample(model, method, self.options.baseline), []
        for s in self.results.sets_of(model, method):
            sample = self.sample(model, method, s)
            if sample and base and s not in self.judge.measures.permuted:
                found.append((s, dead_columns(self.results, model, method, s), compare(sample, base)))
        return found

    def correlation_rows(self, method):
        rows = []
        for model in self.old:
            points = self.points(model, method)
            if len(points) < 5 or len({p[1] for p in points}) < 2:
                continue
            rho = float(scipy.stats.spearmanr([p[1] for p in points], [p[2].estimate for p in points]).correlation)
            # Fisher's z with the variance of Fieller, Hartley and Pearson (1957) for ranks.
            effect = Effect(
                math.atanh(max(-0.999, min(0.999, rho))),
                math.sqrt(1.06 / (len(points) - 3)),
                math.inf,
                (),
                True,
                (f"{len(points)} sets",),
            )
            row = self.judge.row(
                model, method, "Spearman correlation of harm and dead columns", self.measure, "harm", effect
            )
            low, high = effect.interval(self.options.confidence)
            row.scale, row.shown, row.margin = "plain", (rho, math.tanh(low), math.tanh(high)), 0.0
            rows.append(row)
        return rows

    def modern_part(self):
        """Models of today have no dead columns on any set."""
        o, counts = self.options, {}
        for model in o.modern:
            cells = [(m, s) for m in (o.methods["gptq"], o.methods["awq"]) if m for s in self.results.sets_of(model, m)]
            if cells:
                counts[model] = [dead_columns(self.results, model, *cell) for cell in cells]
        title, group = "modern models have no dead columns", "modern models without dead columns"
        found = [n for ns in counts.values() for n in ns]
        if not found or set(found) == {None}:
            return Part(title, group, [], NO_DATA if found else UNTESTED)
        verdict = CONTRADICTED if any(found) else UNDECIDED if None in found else SUPPORTED
        most = {m: max((n for n in ns if n is not None), default=None) for m, ns in counts.items()}
        return Part(
            title,
            group,
            [],
            verdict,
            "most dead columns on any set: "
            + ", ".join(f"{m} {n:g}" if n is not None else f"{m} {NO_DATA}" for m, n in most.items()),
        )


def dead_claim(judge):
    """The claim, and its DeadColumns for figures. Without cells of both policies nothing else decides it."""
    d = DeadColumns(judge)
    o = judge.options
    text = (
        "The old model's sensitivity to calibration comes from deleted columns that calibration never exercised (ours, "
        "not the paper's)."
    )
    if d.measure is None or not o.nonsense:
        return Claim("F8", text, []), d
    paper = [m for m in (o.methods["gptq"], o.methods["awq"]) if m]
    least = f"{100 * o.dead_share:g} %"
    policies, further = [], []
    for zero, rtn in o.dead_pairs:
        (policies if zero in paper else further).append(
            judge.part(
                f"{zero}: rounding dead columns takes away more than {least} of the harm of nonsense",
                f"{zero}, dead columns rounded instead",
                d.policy_rows(zero, rtn, o.nonsense),
            )
        )
        further.append(
            judge.part(
                f"{rtn}: nonsense does no harm any more",
                rtn,
                [judge.against(m, rtn, o.nonsense, d.measure, "no effect", (rtn, o.baseline)) for m in d.old],
            )
        )
    others = [
        judge.part("deleting those columns harms without any quantization", "deletion alone", d.harm_of_deletion()),
        d.modern_part(),
    ]
    # Among sets with few dead columns nothing orders the harm, so the correlation is told, and decides nothing.
    rows = [r for m in paper for r in d.correlation_rows(m)]
    further.append(judge.part("harm grows with the number of dead columns", "correlation", rows))
    further += [
        judge.part(f"deletion alone is more than {least} of the harm of nonsense with {m}", "share", d.deletion_rows(m))
        for m in paper
    ]
    if combine([p.verdict for p in policies]) == UNTESTED:
        return Claim("F8", text, policies, others + further), d
    return Claim("F8", text, policies + others, further), d
