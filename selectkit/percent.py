"""Shares as percentages for people: few digits, and no promise that looks stronger than it is."""

from decimal import ROUND_CEILING, Decimal

_WRITTEN = 6


def percent(share: float) -> str:
    """Return a share that was measured, in three digits.

    Examples:
        >>> percent(0.60937), percent(1.0)
        ('60.9 %', '100 %')
    """
    return f"{100 * share:.3g} %"


def at_most(rate: float) -> str:
    """Return a rate that is promised not to be exceeded, rounded up: down it would promise more.

    Numbers of up to six digits stay; longer ones get two decimals, or below 1 % three digits.

    Examples:
        >>> at_most(0.05), at_most(2 / 3), at_most(0.000123456789)
        ('5 %', '66.67 %', '0.0124 %')
    """
    return f"{_rounded_up(rate):f} %"


def confidence(delta: float) -> str:
    """Return how sure a promise is that fails with probability delta, rounded down.

    Examples:
        >>> confidence(0.1), confidence(0.1 / 3), confidence(1e-4)
        ('90 %', '96.66 %', '99.99 %')
    """
    return f"{100 - _rounded_up(delta):f} %"


def _rounded_up(share: float) -> Decimal:
    """The percentage as a decimal number, at least as large, without zeros at the end.

    What somebody wrote down, in up to six digits, stays as it is.
    """
    written = Decimal(f"{100 * share:.10g}")
    if len(written.as_tuple().digits) <= _WRITTEN:
        return written
    places = min(-2, written.adjusted() - 2)
    rounded = written.quantize(Decimal(10) ** places, rounding=ROUND_CEILING).normalize()
    return rounded.quantize(Decimal(1)) if rounded == rounded.to_integral_value() else rounded
