"""How p values become verdicts, and verdicts of comparisons verdicts of claims."""

import math
import unittest

from report.stats import Effect
from report.verdicts import (
    CONTRADICTED,
    IN_PART,
    NO_DATA,
    SUPPORTED,
    UNDECIDED,
    UNTESTED,
    Claim,
    Part,
    Row,
    combine,
    judge,
)


def row(kind, estimate, se, margin=0.01, floor=0.0, family="", known=True):
    made = Row(
        "M",
        "Q",
        "s",
        "perplexity",
        "ratio",
        kind,
        Effect(estimate, se, math.inf, (), known),
        1.0,
        margin,
        floor,
        family=family,
    )
    return made


def verdict(*args, **options):
    made = row(*args, **options)
    judge([made])
    return made.verdict


class Comparisons(unittest.TestCase):
    def test_no_effect(self):
        self.assertEqual(verdict("no effect", 0.001, 0.004), SUPPORTED)  # 90 %: -0.0056 to 0.0076
        self.assertEqual(verdict("no effect", 0.001, 0.006), UNDECIDED)  # 90 %: up to 0.0109
        self.assertEqual(verdict("no effect", 0.03, 0.01), CONTRADICTED)  # 95 %: from 0.0104
        self.assertEqual(verdict("no effect", -0.03, 0.01), CONTRADICTED)
        self.assertEqual(verdict("no effect", 0.03, 0.0105), UNDECIDED)  # 95 %: from 0.0094

    def test_a_difference_below_the_noise_floor_is_no_effect(self):
        self.assertEqual(verdict("no effect", 0.03, 0.005), CONTRADICTED)
        self.assertEqual(verdict("no effect", 0.03, 0.005, floor=0.025), UNDECIDED)

    def test_a_significant_effect_within_the_margin_is_none(self):
        made = row("no effect", 0.005, 0.001)
        judge([made])
        self.assertLess(made.p_difference, 0.001)
        self.assertEqual(made.verdict, SUPPORTED)

    def test_harm(self):
        self.assertEqual(verdict("harm", 0.03, 0.01), SUPPORTED)
        self.assertEqual(verdict("harm", 0.03, 0.01, floor=0.02), UNDECIDED)
        self.assertEqual(verdict("harm", 0.001, 0.004), CONTRADICTED)
        self.assertEqual(verdict("harm", -0.5, 0.004), CONTRADICTED)
        self.assertEqual(verdict("harm", 0.008, 0.004), UNDECIDED)

    def test_no_gain(self):
        self.assertEqual(verdict("no gain", 0.5, 0.01), SUPPORTED)  # a loss is no gain
        self.assertEqual(verdict("no gain", -0.001, 0.004), SUPPORTED)
        self.assertEqual(verdict("no gain", -0.03, 0.01), CONTRADICTED)
        self.assertEqual(verdict("no gain", -0.008, 0.004), UNDECIDED)

    def test_unknown_spread_decides_nothing(self):
        self.assertEqual(verdict("no effect", 0.0, 0.0001, known=False), UNDECIDED)
        self.assertEqual(verdict("harm", 1.0, 0.0001, known=False), UNDECIDED)

    def test_missing_results(self):
        made = Row("M", "Q", "s", "perplexity", "ratio", "no effect")
        judge([made])
        self.assertEqual(made.verdict, NO_DATA)

    def test_holm_within_families_only(self):
        alone = [row("no effect", 0.0325, 0.01, family=f"{i}") for i in range(5)]
        together = [row("no effect", 0.0325, 0.01, family="languages") for _ in range(5)]
        judge(alone)
        judge(together)
        self.assertEqual({r.verdict for r in alone}, {CONTRADICTED})  # p = 0.0122 each
        self.assertEqual({r.verdict for r in together}, {UNDECIDED})  # adjusted: 0.061
        self.assertAlmostEqual(together[0].p_beyond, 5 * alone[0].p_beyond)

    def test_holm_does_not_touch_equivalence(self):
        rows = [row("no effect", 0.001, 0.004, family="languages") for _ in range(20)]
        judge(rows)
        self.assertEqual({r.verdict for r in rows}, {SUPPORTED})

    def test_accuracies_are_shown_in_their_own_direction(self):
        made = Row("M", "Q", "s", "accuracy", "points", "harm", Effect(0.05, 0.01, math.inf, ()), -1.0, 0.02)
        judge([made])
        self.assertEqual(made.verdict, SUPPORTED)
        self.assertAlmostEqual(made.value(), -0.05)
        low, high = made.interval()
        self.assertLess(low, made.value())
        self.assertLess(high, 0.0)


class Claims(unittest.TestCase):
    def part(self, group, *verdicts, kind="no effect"):
        return Part("t", group, [Row("M", "Q", "s", "m", "ratio", kind, verdict=v) for v in verdicts])

    def test_combine(self):
        self.assertEqual(combine([SUPPORTED, SUPPORTED]), SUPPORTED)
        self.assertEqual(combine([SUPPORTED, UNDECIDED]), UNDECIDED)
        self.assertEqual(combine([SUPPORTED, UNDECIDED, CONTRADICTED]), CONTRADICTED)
        self.assertEqual(combine([SUPPORTED, UNTESTED]), SUPPORTED)
        self.assertEqual(combine([SUPPORTED, NO_DATA]), UNDECIDED)
        self.assertEqual(combine([NO_DATA, NO_DATA]), NO_DATA)
        self.assertEqual(combine([]), UNTESTED)

    def test_no_effect_has_to_hold_in_all_measures(self):
        claim = Claim("F", "", [self.part("modern", SUPPORTED), self.part("modern", UNDECIDED)])
        self.assertEqual(claim.verdict, UNDECIDED)

    def test_an_effect_in_one_measure_is_enough(self):
        parts = [self.part("old", SUPPORTED, kind="harm"), self.part("old", UNDECIDED, kind="harm")]
        self.assertEqual(Claim("F", "", parts).verdict, SUPPORTED)
        parts = [self.part("old", CONTRADICTED, kind="harm"), self.part("old", UNDECIDED, kind="harm")]
        self.assertEqual(Claim("F", "", parts).verdict, UNDECIDED)
        parts = [self.part("old", CONTRADICTED, kind="harm"), self.part("old", CONTRADICTED, kind="harm")]
        self.assertEqual(Claim("F", "", parts).verdict, CONTRADICTED)

    def test_what_is_not_tested_is_said(self):
        claim = Claim("F", "", [self.part("modern", SUPPORTED), self.part("old")])
        self.assertEqual(claim.verdict, IN_PART)
        claim = Claim("F", "", [self.part("modern", CONTRADICTED), self.part("old")])
        self.assertEqual(claim.verdict, CONTRADICTED)

    def test_further_parts_decide_nothing(self):
        claim = Claim("F", "", [self.part("modern", SUPPORTED)], [self.part("modern", CONTRADICTED)])
        self.assertEqual(claim.verdict, SUPPORTED)


if __name__ == "__main__":
    unittest.main()
