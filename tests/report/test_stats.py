"""Statistics against scipy, textbook values and hand calculation."""

import math
import unittest

import numpy as np
import scipy.stats

from report.activation_claims import jackknife
from report.stats import Effect, Sample, Spread, compare, difference, holm, mcnemar, mean_effect, share_interval


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def single(values, **options):
    return Sample((np.asarray(values, float)[None, :],), **options)


class Intervals(unittest.TestCase):
    def test_fixed_samples_are_a_paired_t_test(self):
        a, b = normal(1, 30) + 0.2, normal(2, 30)
        effect = compare(single(a, fixed=True), single(b, fixed=True))
        expected = scipy.stats.ttest_rel(a, b)
        self.assertAlmostEqual(effect.p_difference(), expected.pvalue, 12)
        interval = expected.confidence_interval(0.95)
        self.assertAlmostEqual(effect.interval(0.95)[0], interval.low, 12)
        self.assertAlmostEqual(effect.interval(0.95)[1], interval.high, 12)

    def test_draws_without_differences_between_items_are_welchs_test(self):
        a, b = normal(3, 4) + 1.0, 3.0 * normal(4, 6)
        windows = np.zeros(50)
        effect = compare(
            Sample((a[:, None] + windows,), tuple(range(4))), Sample((b[:, None] + windows,), tuple(range(6)))
        )
        expected = scipy.stats.ttest_ind(a, b, equal_var=False)
        self.assertAlmostEqual(effect.p_difference(), expected.pvalue, 10)

    def test_spread_of_a_single_draw_is_added(self):
        a, b = single([1.0, 1.0, 1.0], spread=Spread(0.3, 7, "elsewhere")), single([0.0, 0.0, 0.0], fixed=True)
        effect = compare(a, b)
        self.assertAlmostEqual(effect.se, 0.3)
        self.assertAlmostEqual(effect.df, 7)
        self.assertIn("elsewhere", effect.notes[0])
        self.assertTrue(effect.known)

    def test_two_draws_take_the_spread_and_three_their_own(self):
        zero = single([0.0, 0.0, 0.0], fixed=True)
        two = Sample((np.array([[1.0] * 3, [2.0] * 3]),), (1, 2), spread=Spread(0.3, 7, "elsewhere"))
        effect = compare(two, zero)
        self.assertAlmostEqual(effect.se, 0.3 / math.sqrt(2))
        self.assertAlmostEqual(effect.df, 7)
        three = Sample((np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3]),), (1, 2, 3), spread=Spread(0.3, 7, "elsewhere"))
        effect = compare(three, zero)
        self.assertAlmostEqual(effect.se, 1 / math.sqrt(3))
        self.assertAlmostEqual(effect.df, 2)
        self.assertEqual(effect.notes, ())

    def test_a_single_draw_without_known_spread_says_so(self):
        self.assertFalse(compare(single(normal(5, 9)), single(normal(6, 9), fixed=True)).known)

    def test_metrics_are_averaged(self):
        a = Sample((np.array([[1.0, 0.0, 1.0, 1.0]]), np.array([[0.0, 1.0]])), fixed=True)
        zero = Sample((np.zeros((1, 4)), np.zeros((1, 2))), fixed=True)
        effect = compare(a, zero)
        self.assertAlmostEqual(effect.estimate, (0.75 + 0.5) / 2)
        variance = (np.var([1, 0, 1, 1], ddof=1) / 4 + np.var([0, 1], ddof=1) / 2) / 4
        self.assertAlmostEqual(effect.se, math.sqrt(variance))
        self.assertAlmostEqual(a.standard_error(), math.sqrt(variance))

    def test_bootstrap_is_repeatable_and_near_the_t_interval(self):
        effect = compare(single(normal(7, 200), fixed=True), single(np.zeros(200), fixed=True))
        again = compare(single(normal(7, 200), fixed=True), single(np.zeros(200), fixed=True))
        self.assertEqual(effect.bootstrap(0.95), again.bootstrap(0.95))
        np.testing.assert_allclose(effect.bootstrap(0.95), effect.interval(0.95), atol=0.03)

    def test_mean_of_units_is_a_t_interval(self):
        values = [0.9, 1.1, 1.3]
        low, high = mean_effect(values, "").interval(0.95)
        half = scipy.stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
        self.assertAlmostEqual(low, 1.1 - half)
        self.assertAlmostEqual(high, 1.1 + half)
        self.assertFalse(mean_effect([1.0], "").known)

    def test_jackknife_of_a_mean_of_pairs(self):
        # Pair values a_i + a_j: the mean is twice that of a, and its jackknife error is known in closed form.
        a = np.array([1.0, 2.0, 4.0, 7.0])
        effect = jackknife({(i, j): a[i] + a[j] for i in range(4) for j in range(i + 1, 4)}, 4)
        self.assertAlmostEqual(effect.estimate, 2 * a.mean())
        left_out = [2 * np.delete(a, i).mean() for i in range(4)]
        self.assertAlmostEqual(effect.se, math.sqrt(3 / 4 * ((left_out - np.mean(left_out)) ** 2).sum()))

    def test_difference_of_unpaired_effects_is_welchs_test(self):
        a, b = normal(17, 12) + 1.0, 2.0 * normal(18, 9)
        zero = [single(np.zeros(n), fixed=True) for n in (12, 9)]
        effect = difference(compare(single(a, fixed=True), zero[0]), compare(single(b, fixed=True), zero[1]))
        self.assertAlmostEqual(effect.p_difference(), scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, 10)


class Tests(unittest.TestCase):
    def test_mcnemar_exact(self):
        # 10 against 2 discordant questions: 2 * sum of C(12, k) / 2^12 for k = 0, 1, 2 = 158 / 4096.
        a = np.array([1.0] * 10 + [0.0] * 2 + [1.0] * 8)
        b = np.array([0.0] * 10 + [1.0] * 2 + [1.0] * 8)
        self.assertAlmostEqual(mcnemar(single(a), single(b)), 158 / 4096)
        self.assertEqual(mcnemar(single(a), single(a)), 1.0)

    def test_mcnemar_is_for_single_draws_of_zeros_and_ones(self):
        self.assertIsNone(mcnemar(single([0.5, 1.0]), single([0.0, 1.0])))
        two = Sample((np.ones((2, 3)),), (1, 2))
        self.assertIsNone(mcnemar(two, two))

    def test_holm(self):
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
        self.assertEqual(holm([0.6, 0.9]), [1.0, 1.0])
        self.assertEqual(holm([]), [])

    def test_two_one_sided_tests(self):
        effect = Effect(0.2, 0.5, 10, ())
        upper = scipy.stats.t.sf((1.0 - 0.2) / 0.5, 10)
        self.assertAlmostEqual(effect.p_equivalence(1.0), upper)
        low, high = effect.interval(1 - 2 * upper)  # the interval that just touches the margin
        self.assertAlmostEqual(high, 1.0)

    def test_identical_outcomes(self):
        same = single(normal(8, 20), fixed=True)
        effect = compare(same, same)
        self.assertEqual((effect.estimate, effect.se, effect.p_difference()), (0.0, 0.0, 1.0))
        self.assertEqual(effect.p_equivalence(0.01), 0.0)
        self.assertEqual(effect.p_above(0.01), 1.0)

    def test_contrast_of_paired_draws(self):
        a = Sample((normal(9, 3, 40),), (1, 2, 3))
        b = Sample((normal(10, 3, 40),), (2, 3, 4))
        difference = a.minus(b)
        self.assertEqual(difference.draws, (2, 3))
        np.testing.assert_allclose(difference.outcomes[0], a.outcomes[0][1:] - b.outcomes[0][:2])
        with self.assertRaises(ValueError):
            a.minus(Sample((normal(11, 1, 40),), (9,)))

    def test_only_some_draws(self):
        a = Sample((normal(16, 3, 5),), (1, 2, 4))
        self.assertEqual(a.only([4, 1, 9]).draws, (1, 4))
        np.testing.assert_allclose(a.only([4, 1, 9]).outcomes[0], a.outcomes[0][[0, 2]])
        self.assertIsNone(a.only([3]))

    def test_scaling_scales_the_spread(self):
        sample = single([1.0, 2.0], spread=Spread(0.2, 3, "")).times(-0.5)
        self.assertAlmostEqual(sample.spread.sd, 0.1)
        np.testing.assert_allclose(sample.outcomes[0], [[-0.5, -1.0]])


class Shares(unittest.TestCase):
    def terms(self, seed, effect):
        noise = 0.05 * normal(seed, 60)
        return [(1.0, single(effect + noise, fixed=True)), (-1.0, single(np.zeros(60), fixed=True))]

    def test_fieller_interval(self):
        whole, rest = self.terms(12, 0.5), self.terms(13, 0.1)
        share, low, high = share_interval(whole, rest, 0.95)
        # Fieller by its quadratic equation, for the ratio rest / whole of two paired means.
        w, r = whole[0][1].outcomes[0][0], rest[0][1].outcomes[0][0]
        n, t2 = 60, scipy.stats.t.ppf(0.975, 59) ** 2
        cov = np.cov(w, r) / n
        roots = np.sort(
            np.roots(
                [
                    w.mean() ** 2 - t2 * cov[0, 0],
                    -2 * (w.mean() * r.mean() - t2 * cov[0, 1]),
                    r.mean() ** 2 - t2 * cov[1, 1],
                ]
            )
        )
        self.assertAlmostEqual(share, 1 - r.mean() / w.mean())
        self.assertAlmostEqual(low, 1 - roots[1], delta=0.006)
        self.assertAlmostEqual(high, 1 - roots[0], delta=0.006)

    def test_share_of_nothing_is_unbounded(self):
        _, low, high = share_interval(self.terms(14, 0.001), self.terms(15, 0.0), 0.95)
        self.assertEqual((low, high), (-math.inf, math.inf))


if __name__ == "__main__":
    unittest.main()
