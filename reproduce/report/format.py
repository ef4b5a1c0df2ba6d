"""Numbers as texts."""
import math


def shown(value, scale, signed=True):
    """An effect of verdicts.Row: "ratio" is exponentiated, "points" are hundredths, "share" is per cent."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "-inf" if value < 0 else "inf"
    if scale == "ratio":
        return ratio(math.exp(value) if value < 700 else math.inf)
    if scale == "points":
        return f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return f"{100 * value:.0f} %" if scale == "share" else f"{value:.2f}"


def plain(value, scale):
    """The same for a sentence: a ratio near 1 as per cent."""
    if scale == "ratio":
        percent = 100 * math.expm1(min(value, 700))
        return f"{percent:+.2f} %" if abs(percent) < 10 else f"{percent:+.0f} %" if percent < 100 else f"x{ratio(math.exp(value))}"
    return shown(value, scale) + (" points" if scale == "points" else "")


def ratio(value):
    """A ratio near 1 with four decimals, a large one with three digits."""
    return f"{value:.4f}" if value < 2 else f"{value:.3g}" if value < 1000 else f"{value:.2e}"


def interval(low, high, scale):
    return f"{shown(low, scale)} to {shown(high, scale)}"


def p_value(p):
    return "" if p is None or math.isnan(p) else "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def with_error(value, error, digits):
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ± {error:.{digits}f}"
