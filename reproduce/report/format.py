"""Numbers as texts."""

import math


def shown(value, scale):
    """An effect of verdicts.Row: "ratio" is exponentiated, "points" are hundredths, "share" is per cent."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "-inf" if value < 0 else "inf"
    if scale == "ratio":
        return ratio(math.exp(value) if value < 700 else math.inf)
    if scale == "points":
        return f"{100 * value:+.1f}"
    return f"{100 * value:.0f} %" if scale == "share" else f"{value:.2f}"


def plain(value, scale):
    """The same for a sentence: a ratio near 1 as per cent."""
    if scale == "ratio":
        percent = 100 * math.expm1(min(value, 700))
        if percent >= 100:
            return f"x{ratio(math.exp(min(value, 700)))}"
        text = f"{percent:+.2f} %" if abs(percent) < 10 else f"{percent:+.0f} %"
        return "0.00 %" if text == "-0.00 %" else text
    return shown(value, scale) + (" points" if scale == "points" else "")


def size(value, scale):
    """A margin or a noise floor: per cent, points, or as it is."""
    return (
        f"{100 * math.expm1(value):.2f} %"
        if scale == "ratio"
        else f"{100 * value:.1f}" if scale == "points" else f"{value:.2f}"
    )


def ratio(value):
    """A ratio near 1 with four decimals, a large one with three digits."""
    return f"{value:.4f}" if value < 2 else f"{value:.3g}" if value < 1000 else f"{value:.2e}"


def interval(low, high, scale):
    return f"{shown(low, scale)} to {shown(high, scale)}"


def p_value(p):
    return "" if p is None or math.isnan(p) else "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def with_error(value, error, digits):
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def counted(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
