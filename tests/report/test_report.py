"""The program as a whole, with a stand-in for ptq."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from report.activation_figures import density, pattern
from report.document import Heading, Table, Text, to_html, to_markdown
from report.output import inputs_digest, remove_former, up_to_date, write_stamp
from report.quality_figures import normalised
from report.stats import Sample
from synthetic import METHODS, World

PROGRAM = pathlib.Path(__file__).resolve().parent.parent.parent / "reproduce" / "report.py"


def small_world():
    world = World(methods={m: k for m, k in METHODS.items() if k not in ("awq", "smoothquant")})
    world.fill(lambda model, method, s: 0.1 if (model, method, s) == ("OPT", "GPTQ W4", "nonsense") else 0.0)
    for model, width in (("OPT", 1.0), ("New", 0.4)):
        for s in ("x:en", "x:zh"):
            world.study(model, s, width)
    return world


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp())
        cls.world = small_world()
        cls.world.lose(model="New", method="GPTQ W4", set="nonsense")
        cls.world.lose("failed", "a Hessian cannot be factored", model="New", method="GPTQ W4", set="x:ru")
        cls.files = cls.world.write(cls.directory / "a")
        cls.done = cls.run_report(
            cls.files, cls.directory / "out", "--markdown", str(cls.directory / "out" / "report.md")
        )

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory)

    @classmethod
    def run_report(cls, files, out, *more):
        ptq, grid, store = files
        return subprocess.run(
            [
                sys.executable,
                str(PROGRAM),
                str(grid),
                "--store",
                str(store),
                "--out",
                str(out),
                "--ptq",
                str(ptq),
                *more,
            ],
            capture_output=True,
            text=True,
        )

    def contents(self, out):
        return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    def test_what_it_writes(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.assertEqual(self.done.stderr, "")
        names = set(self.contents(self.directory / "out"))
        self.assertLessEqual(
            {
                "index.html",
                "claims.json",
                "results.csv",
                "figures.csv",
                "report.md",
                "figures/figure01.png",
                "figures/figure01.pdf",
                "figures/figure10.png",
                "figures/appendixD-1-1.png",
            },
            names,
        )
        page = (self.directory / "out" / "index.html").read_text(encoding="utf-8")
        self.assertIn("a Hessian cannot be factored", page)
        self.assertIn("no data", page)
        self.assertNotIn("<script", page)
        self.assertNotIn('src="http', page)
        self.assertNotIn(str(self.directory), page)

    def test_claims_json(self):
        made = json.loads((self.directory / "out" / "claims.json").read_text(encoding="utf-8"))
        self.assertEqual([c["id"] for c in made["claims"]], [f"F{i}" for i in range(1, 9)])
        parts = {p["title"]: p for p in made["claims"][0]["parts"]}
        harm = parts["old models, nonsense harms: perplexity"]
        gptq = next(c for c in harm["comparisons"] if c["method"] == "GPTQ W4")
        self.assertAlmostEqual(gptq["value"], 0.1, delta=0.002)
        self.assertEqual(gptq["verdict"], "supported")
        self.assertLess(gptq["low"], gptq["value"])
        self.assertEqual(harm["models"], {"OPT": "supported"})

    def test_markdown_names_figures_that_are_there(self):
        text = (self.directory / "out" / "report.md").read_text(encoding="utf-8")
        named = {part.split(")")[0] for part in text.split("](figures/")[1:]}
        self.assertIn("figure01.png", named)
        self.assertLessEqual(named, {p.name for p in (self.directory / "out" / "figures").iterdir()})

    def test_equal_results_give_equal_files(self):
        """Another directory, other run times: the same bytes."""
        files = self.world.write(self.directory / "b", run=7)
        done = self.run_report(files, self.directory / "again")
        self.assertEqual(done.returncode, 0, done.stderr)
        first, second = self.contents(self.directory / "out"), self.contents(self.directory / "again")
        first.pop("report.md")
        self.assertEqual(sorted(first), sorted(second))
        for name, data in first.items():
            self.assertEqual(data, second[name], name)

    def test_a_report_that_is_up_to_date_is_left_alone(self):
        self.assertIn("up to date", self.run_report(self.files, self.directory / "out").stdout)

    def test_up_to_date_looks_at_every_file(self):
        out = self.directory / "stamped"
        out.mkdir()
        (out / "page").write_text("text", encoding="utf-8")
        write_stamp(out, "inputs", ["page"])
        self.assertTrue(up_to_date(out, "inputs"))
        self.assertFalse(up_to_date(out, "other inputs"))
        (out / "page").write_text("other text", encoding="utf-8")
        self.assertFalse(up_to_date(out, "inputs"))
        (out / "page").unlink()
        self.assertFalse(up_to_date(out, "inputs"))
        self.assertFalse(up_to_date(self.directory / "nothing", "inputs"))

    def test_only_the_former_reports_figures_are_removed(self):
        out = self.directory / "former"
        (out / "figures").mkdir(parents=True)
        for name in ("figures/old.png", "figures/mine.png", "index.html"):
            (out / name).write_text("x", encoding="utf-8")
        write_stamp(out, "inputs", ["figures/old.png", "index.html"])
        remove_former(out)
        self.assertEqual([p.name for p in (out / "figures").iterdir()], ["mine.png"])
        self.assertTrue((out / "index.html").exists())

    def test_outcomes_count_and_runs_do_not(self):
        other = small_world()
        other.put("New", "GPTQ W4", "arc", harm=0.001)
        same = small_world()
        self.assertEqual(inputs_digest(same.lines()), inputs_digest(same.lines(run=5)))
        self.assertNotEqual(inputs_digest(same.lines()), inputs_digest(other.lines()))


class Mistakes(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def check(self, files, code, text):
        done = Program.run_report(files, self.directory / "out")
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(text, done.stderr)

    def test_no_ptq(self):
        _, grid, store = World().write(self.directory)
        self.check((self.directory / "nothing", grid, store), 66, "build it, or name it with --ptq")

    def test_ptq_refuses(self):
        ptq, grid, store = World().write(self.directory)
        ptq.write_text("#!/bin/sh\necho 'grid.toml:3: unknown key' >&2\nexit 65\n", encoding="utf-8")
        self.check((ptq, grid, store), 65, "grid.toml:3: unknown key")

    def test_a_wrong_name_in_report(self):
        self.check(World(report={"old": ["Opt"]}).write(self.directory), 65, "grid.toml: [report] old: 'Opt'")

    def test_arrays_of_another_study(self):
        world = World()
        world.study("OPT", "x:en", 1.0)
        ptq, grid, store = world.write(self.directory)
        arrays = next(store.rglob("*.safetensors"))
        arrays.write_bytes(arrays.read_bytes()[:-8] + b"\0" * 8)
        self.check((ptq, grid, store), 65, arrays.name)
        arrays.unlink()
        self.check((ptq, grid, store), 66, arrays.name)


class Pieces(unittest.TestCase):
    def test_pattern_pools_what_is_beyond_the_percentiles(self):
        means = np.zeros((2, 256))
        means[0, 10], means[1, 255] = 5.0, -3.0
        positive, negative = pattern(means)
        self.assertEqual(positive.shape, (2, 128))
        self.assertEqual((positive[0, 5], negative[1, 127]), (5.0, -3.0))
        self.assertEqual(np.count_nonzero(positive) + np.count_nonzero(negative), 2)
        self.assertEqual(pattern(np.zeros((2, 96)))[0].shape, (2, 96))

    def test_density_is_of_all_values(self):
        values, outside = density(np.array([[1, 2, 4, 3]]), 0.5)  # 3 of 10 above, 1 below
        np.testing.assert_allclose(values, [0.4, 0.8])
        self.assertAlmostEqual(outside, 0.4)

    def test_normalised_accuracy_has_both_errors(self):
        a = Sample((np.array([[1.0, 0.0, 1.0, 1.0]]),))
        b = Sample((np.array([[1.0, 0.0, 1.0, 0.0]]),))
        value = normalised(a, b)
        se_a, se_b = a.standard_error(), b.standard_error()
        self.assertAlmostEqual(value.mean, 1.5)
        self.assertAlmostEqual(value.simple, se_a / 0.5)
        self.assertAlmostEqual(value.full, 1.5 * ((se_a / 0.75) ** 2 + (se_b / 0.5) ** 2) ** 0.5)

    def test_normalised_perplexity_is_a_ratio(self):
        a, b = (Sample((np.log(np.array([[4.0, 9.0]])) + shift,)) for shift in (0.1, 0.0))
        self.assertAlmostEqual(normalised(a, b).mean, np.exp(0.1))
        self.assertIsNone(normalised(a, b).simple)

    def test_text_is_escaped(self):
        blocks = [Heading("a < b", 1), Text("x & y | z"), Table(["c"], [["supported"], ["<i>"]])]
        page, text = to_html("t", blocks, None), to_markdown(blocks, "figures")
        self.assertIn("a &lt; b", page)
        self.assertNotIn("<i>", page)
        self.assertIn('class="verdict supported"', page)
        self.assertIn("**supported**", text)
        self.assertIn("x & y \\| z", text)


if __name__ == "__main__":
    unittest.main()
