"""The page's first table, a sentence for every claim, and the rules that its verdicts follow."""

from report.document import Heading, Items, Table
from report.format import plain
from report.verdicts import UNTESTED


def summary(claims, options):
    """Blocks: a row for every claim."""
    rows = [[c.id, c.text, c.verdict, sentence(c)] for c in claims]
    return [
        Heading("Verdicts", 2, "verdicts"),
        Table(["", "claim", f"verdict at scale {options.scale}", "measured"], rows),
    ]


def rules(o):
    """Blocks that say how verdicts are made, with the margins of these options."""
    percent = f"{100 * o.confidence:g} %"
    tests = f"{100 * (2 * o.confidence - 1):g} %"
    return [
        Heading("How verdicts are made", 2, "rules"),
        Items(
            [
                (
                    f"Margins, stated in the grid file: perplexity {100 * o.perplexity_margin:g} %, accuracy "
                    f"{100 * o.accuracy_margin:g} points; F6 and F7 {100 * o.width_margin:g} %."
                ),
                (
                    "An effect on perplexity is the log of the ratio to the baseline, on accuracy the difference."
                    " Both are paired by evaluation window or question. The variance is that of the paired"
                    " differences plus that between the calibration draws of both sets (Welch-Satterthwaite degrees"
                    " of freedom, t intervals). A set with one or two draws takes the spread that the same method has"
                    f" between draws of {', '.join(o.spread_sets) or 'the sets that have several'}; the remarks say so."
                    " Without any known spread a comparison stays undecided."
                ),
                (
                    f"“No effect” is supported if two one-sided tests put the effect inside the margin (the {tests}"
                    f" interval is inside), contradicted if the {percent} interval is beyond the margin and beyond"
                    " the noise floor, else undecided."
                ),
                (
                    f"“Harm” is supported if the {percent} interval is beyond margin and noise floor, contradicted"
                    f" if harm of a margin is excluded (upper end of the {tests} interval), else undecided. “No"
                    " gain” is the same about gains."
                ),
                (
                    "The noise floor is 1.96 standard deviations of a difference by what should not matter:"
                    " calibration draws, order of windows, perturbations of rounding's size, whichever is largest,"
                    " measured on the sets compared, where they were measured on them."
                ),
                (
                    "Comparisons over languages of one model and method are Holm-corrected for calling any of them"
                    " an effect. Calling all of them equivalent needs no correction."
                ),
                (
                    "A claim is contradicted if one of its comparisons is, supported if all are, else undecided."
                    " Where a claim asserts an effect, perplexity or accuracy is enough. What this grid does not"
                    " test is left out and said. Further methods and parts so named decide nothing."
                ),
                (
                    "The second interval is a percentile bootstrap over windows or questions alone. McNemar's exact"
                    " test is given for pairs of single draws of one task."
                ),
            ]
        ),
    ]


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
        said.append(
            f"{group}: " + ", ".join(" ".join(filter(None, [p.measure, p.verdict, in_brackets(p)])) for p in tested)
        )
    return "; ".join(said)[:1].upper() + "; ".join(said)[1:] + "."


def in_brackets(part):
    """How many comparisons have which verdict, if they differ, and the largest effect."""
    counts = [f"{n} {v}" for v, n in part.counts().items() if n]
    text = "; ".join(filter(None, [", ".join(counts) if len(counts) > 1 else "", largest(part)]))
    return f"({text})" if text else ""


def largest(part):
    """The row of the largest effect, as a text; "" without one."""
    rows = [r for r in part.rows if r.effect]
    if not rows:
        return part.note
    row = max(rows, key=lambda r: abs(r.value()))
    about = f"{row.model}, {row.method}" + (f", {row.subject}" if len({r.subject for r in rows}) > 1 else "")
    return f"{'largest ' if len(rows) > 1 else ''}{plain(row.value(), row.scale)} for {about}"
