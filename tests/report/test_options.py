"""The [report] table: defaults, and one clear line for everything that is wrong in it."""

import json
import unittest

from report.option_reader import OptionError
from report.options import read_options
from report.store import Grid
from synthetic import World


def options(**table):
    world = World(report=table)
    grid = Grid(json.loads(json.dumps(world.grid()))["grid"])
    return read_options(grid.report, grid)


class Defaults(unittest.TestCase):
    def test_roles_come_from_kinds(self):
        made = options()
        self.assertEqual(made.methods["gptq"], "GPTQ W4")
        self.assertEqual(made.methods["full_precision"], "FP32")
        self.assertEqual(made.methods["deletion"], "dead removed")
        self.assertEqual(made.dead_pairs, [("GPTQ W4", "GPTQ W4, dead rtn")])
        self.assertEqual(made.further, [])
        self.assertEqual((made.old, made.modern), ([], ["OPT", "New"]))
        self.assertEqual(made.tasks, ["arc", "piqa", "winogrande"])
        self.assertEqual((made.nonsense, made.perplexity, made.perplexity_margin), ("nonsense", "ppl", 0.01))

    def test_modern_models_are_all_others(self):
        self.assertEqual(options(old=["OPT"]).modern, ["New"])
        self.assertEqual(options(seeds={"OPT": ["New"]}).modern, ["OPT"])

    def test_scripts(self):
        made = options(languages={"x:en": "Latin", "x:ru": "Cyrillic"})
        self.assertEqual((made.latin(), made.non_latin()), (["x:en"], ["x:ru"]))
        self.assertEqual(made.label("x:ru"), "ru")
        self.assertEqual(made.label("mixed"), "mixed")


class Mistakes(unittest.TestCase):
    def check(self, text, **table):
        with self.assertRaises(OptionError) as caught:
            options(**table)
        self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_every_kind_of_mistake(self):
        self.check("old: 'OPTT' is not a model of this grid; did you mean 'OPT'?", old=["OPTT"])
        self.check("gptq: 'gptq' is not a method", gptq="gptq")
        self.check("content: 'arcs' is not a set", content={"arcs": "arc"})
        self.check("content: 'rac' is not a metric", content={"arc": "rac"})
        self.check("perplexity_margin: 3 is not between 0 and 1", perplexity_margin=3)
        self.check("perplexity_margin: must be a number", perplexity_margin="small")
        self.check("accuracy_margn: unknown key; did you mean accuracy_margin?", accuracy_margn=0.01)
        self.check("old: must be a list of models", old="OPT")
        self.check("languages: 'nobody' is not a group", languages="nobody")
        self.check("languages: the script of 'x:en' is not in its name", languages=["x:en"])
        self.check("accuracy: arc = 'best' is neither", accuracy={"arc": "best"})
        self.check("dead_pairs: must be a list of pairs", dead_pairs=["GPTQ W4"])
        self.check("draw_spread: must be", draw_spread={"speed": 0.1})
        self.check("seeds: must hold lists", seeds={"OPT": "New"})
        self.check("confidence: must be a number", confidence=True)


if __name__ == "__main__":
    unittest.main()
