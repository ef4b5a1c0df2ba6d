#!/usr/bin/env python3
"""Report on a grid: every figure of the paper that the grid has results for, and verdicts on its claims.

    report.py GRID.toml --store DIR --out DIR [--markdown FILE]

Reads what `ptq collect` gathers from the store, and the arrays of activation studies. Writes OUT/index.html (one
self-contained page), OUT/figures/*.png and *.pdf, claims.json, figures.csv and results.csv. Missing cells are gaps, not
errors. Equal results give equal files; a report that is up to date is left alone (unless for --markdown). The grid's
[report] table says which model, method and set plays which role, and the margins of the tests:
reproduce/report/options.py documents it.
"""

import argparse
import pathlib
import shutil
import sys

from report import output
from report.activation_claims import activation_claims
from report.causal import causal_claims
from report.claims import quality_claims
from report.dead_claims import dead_claim
from report.document import to_html, to_markdown
from report.judge import Judge
from report.measures import Measures
from report.option_reader import OptionError
from report.options import read_options
from report.page import Page
from report.store import Results, StoreError, collect

ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=pathlib.Path)
    parser.add_argument("--store", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--ptq", type=pathlib.Path, default=ROOT / "build" / "ptq")
    parser.add_argument("--device", help="device class that the cells were computed on, as for ptq run")
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the page as Markdown; figures go beside it")
    return parser.parse_args()


def judged(results, options):
    """(claims F1-F8, claims on injected outliers, studies, dead columns, measures)"""
    measures = Measures(results, options)
    judge = Judge(measures, options)
    activations, studies = activation_claims(results, options)
    f8, dead = dead_claim(judge)
    causal, _ = causal_claims(judge)
    return quality_claims(judge) + activations + [f8], causal, studies, dead, measures


def write(args, results, options, inputs):
    claims, causal, studies, dead, measures = judged(results, options)
    figures = args.out / "figures"
    output.remove_former(args.out)
    figures.mkdir(exist_ok=True)
    page = Page(measures, claims, causal, studies, dead, figures)
    blocks = page.blocks()
    (args.out / "index.html").write_text(to_html(page.title(), blocks, figures), encoding="utf-8")
    (args.out / "claims.json").write_text(output.claims_json(results.grid, options, claims + causal), encoding="utf-8")
    output.write_figures_csv(args.out / "figures.csv", page.figures.numbers)
    if args.markdown:
        beside = args.markdown.parent / "figures"
        if beside.resolve() != figures.resolve():
            beside.mkdir(parents=True, exist_ok=True)
            for stem in page.stems:
                shutil.copyfile(figures / f"{stem}.png", beside / f"{stem}.png")
        args.markdown.write_text(to_markdown(blocks, "figures"), encoding="utf-8")
    files = ["index.html", "claims.json", "figures.csv", "results.csv"]
    files += [f"figures/{stem}.{kind}" for stem in page.stems for kind in ("png", "pdf")]
    output.write_stamp(args.out, inputs, files)
    return claims + causal


def main():
    args = arguments()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        grid, cells, inputs = collect(
            args.ptq, args.grid, args.store, args.out / "results.csv", args.models, args.data, args.device
        )
        if not args.markdown and output.up_to_date(args.out, inputs):
            print(f"{args.out}/index.html is up to date")
            return 0
        options = read_options(grid.report, grid)
        claims = write(args, Results(grid, cells, args.store), options, inputs)
    except StoreError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return error.code
    except OptionError as error:
        print(f"report.py: {args.grid}: [report] {error}", file=sys.stderr)
        return 65
    except OSError as error:
        print(f"report.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 74
    for claim in claims:
        print(f"{claim.id}  {claim.verdict:12}  {claim.text}")
    print(f"{args.out}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
