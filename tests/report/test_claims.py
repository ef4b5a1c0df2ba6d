"""Claims on made-up grids with known effects."""

import math
import tempfile
import unittest

from report.activation_claims import activation_claims
from report.causal import causal_claims
from report.claims import quality_claims
from report.dead_claims import dead_claim
from report.judge import Judge
from report.measures import Measures
from report.options import read_options
from report.store import Results, read_rows
from report.verdicts import CONTRADICTED, NO_DATA, SUPPORTED, UNDECIDED, UNTESTED
from synthetic import METHODS, UNCALIBRATED, World, twin


def judge_of(world):
    grid, cells = read_rows(world.lines())
    options = read_options(grid.report, grid)
    return Judge(Measures(Results(grid, cells, "."), options), options)


def quality(world):
    return {c.id: c for c in quality_claims(judge_of(world))}


def part(claim, text):
    return next(p for p in claim.parts + claim.further if text in p.title)


def harms(nonsense_old=0.1, nonsense_new=0.001, other=0.0):
    """Harm by model, method and set: of nonsense with GPTQ and AWQ, and of anything calibrated on another script."""

    def harm(model, method, set_name):
        if method not in ("GPTQ W4", "AWQ W4") or set_name in (None, "mixed"):
            return 0.0
        if set_name == "nonsense":
            return nonsense_old if model == "OPT" else nonsense_new
        return other if model == "OPT" and set_name in ("x:ru", "x:zh", "x:ar") else 0.0

    return harm


class Nonsense(unittest.TestCase):
    def test_the_papers_finding(self):
        world = World()
        world.fill(harms())
        claim = quality(world)["F1"]
        self.assertEqual(part(claim, "nonsense does no harm: perplexity").verdict, SUPPORTED)
        self.assertEqual(part(claim, "nonsense harms: perplexity").verdict, SUPPORTED)
        row = part(claim, "nonsense harms: perplexity").rows[0]
        self.assertAlmostEqual(row.value(), 0.1, delta=0.002)

    def test_diminishing(self):
        world = World()
        world.fill(harms(nonsense_old=0.1, nonsense_new=0.03))
        rows = part(quality(world)["F1"], "harmed more than modern").rows
        self.assertEqual([r.model for r in rows], ["OPT / New", "OPT / New"])
        self.assertAlmostEqual(rows[0].value(), 0.07, delta=0.003)
        self.assertEqual({r.verdict for r in rows}, {SUPPORTED})

    def test_a_known_effect_on_the_modern_model(self):
        world = World()
        world.fill(harms(nonsense_new=0.05))
        claim = quality(world)["F1"]
        self.assertEqual(part(claim, "nonsense does no harm: perplexity").verdict, CONTRADICTED)
        self.assertEqual(claim.verdict, CONTRADICTED)

    def test_no_effect_on_the_old_model(self):
        world = World()
        world.fill(harms(nonsense_old=0.0))
        self.assertEqual(part(quality(world)["F1"], "nonsense harms: perplexity").verdict, CONTRADICTED)

    def test_between_draws_the_effect_drowns(self):
        world = World()
        world.fill(harms(nonsense_new=0.02), draw_sd=0.03)
        rows = part(quality(world)["F1"], "nonsense does no harm: perplexity").rows
        self.assertEqual({r.verdict for r in rows}, {UNDECIDED})
        self.assertGreater(rows[0].floor, 0.02)

    def test_a_missing_cell_is_a_gap(self):
        world = World()
        world.fill(harms())
        world.lose(model="New", method="AWQ W4", set="nonsense")
        missing = part(quality(world)["F1"], "nonsense does no harm: perplexity")
        self.assertEqual([r.verdict for r in missing.rows], [SUPPORTED, NO_DATA])
        self.assertEqual(missing.verdict, UNDECIDED)

    def test_one_draw_only(self):
        world = World(draws={"mixed": 1, "nonsense": 1})
        world.fill(harms())
        claim = quality(world)["F1"]
        rows = part(claim, "nonsense harms: perplexity").rows
        self.assertEqual({r.verdict for r in rows}, {UNDECIDED})
        self.assertIn("no spread", rows[0].note)

    def test_one_draw_takes_the_spread_of_other_sets(self):
        world = World(draws={"mixed": 4, "nonsense": 1})
        world.fill(harms())
        row = part(quality(world)["F1"], "nonsense harms: perplexity").rows[0]
        self.assertEqual(row.verdict, SUPPORTED)
        self.assertIn("other sets", row.note)

    def test_the_spread_of_chosen_sets(self):
        world = World()
        world.fill(harms(), draw_sd=0.0005)
        for model in ("OPT", "New"):
            world.put(model, "GPTQ W4", "nonsense", 0.1, draw_sd=0.05)
        rows = {}
        for chosen in ([], ["mixed"]):
            world.report["spread_sets"] = chosen
            modern = part(quality(world)["F3"], "each language like mixed: perplexity")
            rows[bool(chosen)] = next(r for r in modern.rows if r.method == "GPTQ W4")
        self.assertEqual((rows[False].verdict, rows[True].verdict), (UNDECIDED, SUPPORTED))
        self.assertGreater(rows[False].floor, 10 * rows[True].floor)

    def test_assumed_spread(self):
        world = World(draws={"mixed": 1, "nonsense": 1})
        world.report["draw_spread"] = {"perplexity": 0.002}
        world.fill(harms())
        row = part(quality(world)["F1"], "nonsense harms: perplexity").rows[0]
        self.assertEqual(row.verdict, SUPPORTED)
        self.assertIn("assumed", row.note)

    def test_perturbation_raises_the_floor(self):
        world = World()
        world.report["perturbed"] = {"GPTQ W4": ["AWQ W4"]}  # stands for the same method with other rounding
        world.fill(harms(nonsense_new=0.05))
        for draw_set in ("mixed", "nonsense"):
            world.put("New", "AWQ W4", draw_set, 0.2)
        rows = part(quality(world)["F1"], "nonsense does no harm: perplexity").rows
        gptq = next(r for r in rows if r.method == "GPTQ W4")
        self.assertGreater(gptq.floor, 0.1)
        self.assertEqual(gptq.verdict, UNDECIDED)

    def test_training_seeds_of_the_old_model_count(self):
        world = World(models=("OPT", "OPT 2", "New"))
        world.report["seeds"] = {"OPT": ["OPT 2"]}
        world.fill(harms())  # "OPT 2" is like the new model: not harmed
        claim = quality(world)["F1"]
        self.assertEqual({r.model for r in part(claim, "nonsense harms: perplexity").rows}, {"OPT", "OPT 2"})
        self.assertEqual(part(claim, "nonsense harms: perplexity").verdict, CONTRADICTED)


class OtherClaims(unittest.TestCase):
    def test_content_gain(self):
        world = World()
        world.fill()
        world.put("New", "GPTQ W4", "arc", points=0.15)
        claim = quality(world)["F2"]
        arc = part(claim, "calibrating on arc").rows
        self.assertEqual(next(r.verdict for r in arc if (r.model, r.method) == ("New", "GPTQ W4")), CONTRADICTED)
        self.assertEqual(part(claim, "calibrating on piqa").verdict, SUPPORTED)

    def test_scripts(self):
        world = World()
        world.fill(harms(other=0.05))
        claim = quality(world)["F3"]
        self.assertEqual(part(claim, "worse than Latin: perplexity").verdict, SUPPORTED)
        self.assertEqual(part(claim, "each language like mixed: perplexity").verdict, SUPPORTED)
        self.assertAlmostEqual(part(claim, "worse than Latin: perplexity").rows[0].value(), 0.05, delta=0.002)

    def test_a_missing_language(self):
        world = World()
        world.fill(harms(other=0.05))
        world.lose(model="OPT", method="GPTQ W4", set="x:zh")
        rows = part(quality(world)["F3"], "worse than Latin: perplexity").rows
        self.assertEqual({r.method: r.verdict for r in rows}, {"GPTQ W4": NO_DATA, "AWQ W4": SUPPORTED})

    def test_naive(self):
        world = World()
        world.fill(lambda model, method, s: 0.1 if (model, method) == ("OPT", "W8A8") else 0.0)
        claim = quality(world)["F5"]
        self.assertEqual(part(claim, "nothing lost: perplexity").verdict, SUPPORTED)
        self.assertEqual(part(claim, "harmed: perplexity").verdict, SUPPORTED)
        self.assertIsNotNone(part(claim, "nothing lost: mean").rows[0].effect)
        self.assertIn("F4", quality(world))

    def test_a_grid_without_old_models(self):
        world = World(models=("New",), report={})
        world.fill(harms())
        claim = quality(world)["F1"]
        self.assertEqual(part(claim, "nonsense harms: perplexity").verdict, UNTESTED)
        self.assertEqual(part(claim, "nonsense does no harm: perplexity").verdict, SUPPORTED)


class DeadColumns(unittest.TestCase):
    DEAD = {
        "mixed": 2,
        "nonsense": 400,
        "arc": 10,
        "piqa": 20,
        "x:en": 5,
        "x:fr": 8,
        "x:ru": 40,
        "x:zh": 60,
        "x:ar": 50,
    }

    def world(self, after_rtn=0.0):
        """The old model loses 1/4000 for each dead column that is deleted."""
        world = World()
        for model in ("OPT", "New"):
            for method in METHODS:
                for s in [None] if method in UNCALIBRATED else world.draws:
                    dead = self.DEAD[s] if model == "OPT" and s else 0
                    share = {"GPTQ W4": 1.0, "dead removed": 1.0, "GPTQ W4, dead rtn": after_rtn, "AWQ W4": 1.0}
                    world.put(model, method, s, dead / 4000 * share.get(method, 0.0), dead=dead)
        return world

    def test_deletion_is_the_cause(self):
        claim, _ = dead_claim(judge_of(self.world()))
        share = part(claim, "takes away more than").rows[0]
        self.assertAlmostEqual(share.value(), 1.0, delta=0.05)
        self.assertGreater(share.interval()[0], 0.9)
        self.assertEqual(part(claim, "without any quantization").verdict, SUPPORTED)
        self.assertEqual(part(claim, "grows with").verdict, SUPPORTED)
        self.assertEqual(part(claim, "have no dead columns").verdict, SUPPORTED)
        self.assertEqual(claim.verdict, SUPPORTED)

    def test_training_seeds_are_averaged(self):
        world = self.world()
        world.models.append({"name": "OPT 2", "path": "OPT 2"})
        world.report["seeds"] = {"OPT": ["OPT 2"]}
        for method in METHODS:
            for s in [None] if method in UNCALIBRATED else world.draws:
                share = {"GPTQ W4": 3.0, "GPTQ W4, dead rtn": 0.3, "dead removed": 2.0}.get(method, 0.0)
                world.put("OPT 2", method, s, (self.DEAD[s] if s else 0) / 4000 * share, dead=1)
        rows = part(dead_claim(judge_of(world))[0], "takes away more than").rows
        self.assertEqual([r.model for r in rows], ["OPT", "OPT 2", "mean of 2 training seeds"])
        self.assertAlmostEqual(rows[2].value(), (1.0 + 0.9) / 2, delta=0.02)

    def test_deletion_is_not_the_cause(self):
        claim, _ = dead_claim(judge_of(self.world(after_rtn=0.8)))
        share = part(claim, "takes away more than").rows[0]
        self.assertAlmostEqual(share.value(), 0.2, delta=0.05)
        self.assertEqual(share.verdict, CONTRADICTED)
        self.assertEqual(claim.verdict, CONTRADICTED)

    def test_without_the_other_policy_nothing_is_tested(self):
        world = self.world()
        for key in [k for k in world.cells if k[1] == "GPTQ W4, dead rtn"]:
            del world.cells[key]
        self.assertEqual(dead_claim(judge_of(world))[0].verdict, UNTESTED)

    def test_a_modern_model_with_dead_columns(self):
        world = self.world()
        world.put("New", "GPTQ W4", "nonsense", dead=3)
        claim, _ = dead_claim(judge_of(world))
        self.assertEqual(part(claim, "have no dead columns").verdict, CONTRADICTED)


class Outliers(unittest.TestCase):
    def world(self, smoothed=0.0, dependence=0.5):
        twins = [twin(f"gain #{i}", "OPT", seed=i) for i in (1, 2)]
        twins += [twin(f"offset #{i}", "OPT", offset=10.0, scale=1.0, seed=i) for i in (1, 2)]
        world = World(twins=twins)
        world.fill(noise=0.0, draw_sd=0.0)
        for about in twins:
            offset = about["inject"]["offset"]
            for method in METHODS:
                for s in [None] if method in UNCALIBRATED else ["mixed", "nonsense"]:
                    harm = {"W8A8": 0.5, "removed": 0.05}.get(method, smoothed if method == "SmoothQuant" else 0.0)
                    if offset and s == "nonsense" and method.startswith("GPTQ"):
                        harm = dependence
                    self.copy(world, about["name"], method, s, harm)
        return world

    def copy(self, world, name, method, set_name, harm):
        """The clean model's cell, worse by `harm` and a little that differs from twin to twin."""
        source = "FP32" if method == "removed" else method
        clean = world.cells["OPT", source, set_name, 1]["metrics"]["ppl"]
        shift = harm + (0.0005 if name.endswith("1") else 0.0)
        ppl = {**clean, "window_nll": [x + shift for x in clean["window_nll"]]}
        world.cells[name, method, set_name, 1] = {"metrics": {"ppl": ppl}, "health": {}}

    def claims(self, **options):
        made, _ = causal_claims(judge_of(self.world(**options)))
        return {c.id: c for c in made}

    def test_smoothquant_undoes_gains(self):
        gain = self.claims()["C1"]
        self.assertEqual(part(gain, "naive W8A8 is harmed").verdict, SUPPORTED)
        self.assertEqual(part(gain, "SmoothQuant undoes").verdict, SUPPORTED)
        self.assertEqual(part(gain, "elsewhere").verdict, UNTESTED)
        control = part(gain, "harm of outliers by method").rows[0]
        self.assertEqual((control.method, control.note.split(";")[0]), ("removed", "control"))
        self.assertAlmostEqual(control.value(), 0.05, delta=0.001)

    def test_twins_are_judged_one_by_one(self):
        naive = part(self.claims()["C1"], "naive W8A8 is harmed").rows
        self.assertEqual([r.model.rpartition(", ")[2] for r in naive], ["seed 1", "seed 2"])
        self.assertEqual([r.verdict for r in naive], [SUPPORTED, SUPPORTED])

    def test_smoothquant_fails(self):
        self.assertEqual(part(self.claims(smoothed=0.3)["C1"], "SmoothQuant undoes").verdict, CONTRADICTED)

    def test_the_clean_model_of_the_same_draw_is_compared(self):
        world = self.world()
        for draw in (2, 3, 4):  # other draws of the clean model are far off
            ppl = world.cells["OPT", "SmoothQuant", "mixed", draw]["metrics"]["ppl"]
            ppl["window_nll"] = [x + 1.0 for x in ppl["window_nll"]]
        claims, _ = causal_claims(judge_of(world))
        self.assertEqual(part(claims[0], "SmoothQuant undoes").verdict, SUPPORTED)

    def test_content_matters_with_offsets(self):
        self.assertEqual(part(self.claims()["C2"], "nonsense harms more").verdict, SUPPORTED)
        self.assertEqual(part(self.claims(dependence=0.0)["C2"], "nonsense harms more").verdict, CONTRADICTED)

    def test_no_twins_no_claims(self):
        world = World()
        world.fill()
        self.assertEqual(causal_claims(judge_of(world))[0], [])


class Activations(unittest.TestCase):
    def claims(self, world, directory="."):
        grid, cells = read_rows(world.lines())
        claims, _ = activation_claims(Results(grid, cells, directory), read_options(grid.report, grid))
        return {c.id: c for c in claims}

    def world(self, old, new):
        world = World()
        for s in ("mixed", "x:en", "x:zh"):
            world.study("OPT", s, old)
            world.study("New", s, new)
        return world

    def test_widths(self):
        for old, new, verdict in ((1.0, 0.5, SUPPORTED), (0.5, 1.0, CONTRADICTED)):
            with self.subTest(old=old), tempfile.TemporaryDirectory() as directory:
                world = self.world(old, new)
                world.write(directory)
                claim = self.claims(world, f"{directory}/store")["F6"]
                self.assertEqual(part(claim, "each model wider").verdict, verdict)
                self.assertAlmostEqual(part(claim, "each model wider").rows[0].value(), math.log(old / new), delta=1e-9)

    def test_missing_studies(self):
        world = self.world(1.0, 0.5)
        world.lose(model="New")
        with tempfile.TemporaryDirectory() as directory:
            world.write(directory)
            self.assertEqual(self.claims(world, f"{directory}/store")["F6"].verdict, NO_DATA)

    def test_without_studies_nothing_is_tested(self):
        world = World()
        world.fill()
        self.assertEqual({c.verdict for c in self.claims(world).values()}, {UNTESTED})


if __name__ == "__main__":
    unittest.main()
