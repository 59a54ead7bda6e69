"""Percentages for people: few digits, never a stronger promise."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selectkit.percent import at_most, confidence, percent

SHARES = st.floats(1e-9, 1, exclude_max=True)


def number(text: str) -> Decimal:
    return Decimal(text.removesuffix(" %")) / 100


@pytest.mark.parametrize(
    ("delta", "text"),
    [(0.1, "90 %"), (0.1 / 3, "96.66 %"), (0.05, "95 %"), (1e-4, "99.99 %"), (0.1 / 7, "98.57 %"),
     (0.3, "70 %"), (0.07, "93 %"), (0.999, "0.1 %"), (1e-6, "99.9999 %")],
)  # fmt: skip
def test_confidence_has_few_digits(delta: float, text: str) -> None:
    assert confidence(delta) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.05, "5 %"), (0.02, "2 %"), (0.0125, "1.25 %"), (1 / 3, "33.34 %"), (0.29, "29 %"),
     (0.57, "57 %"), (0.012345, "1.2345 %"), (1 / 808, "0.124 %"), (0.8, "80 %"), (1.0, "100 %"),
     (0.0, "0 %")],
)  # fmt: skip
def test_a_promised_rate_has_few_digits(rate: float, text: str) -> None:
    assert at_most(rate) == text


@given(SHARES)
def test_what_is_said_is_no_stronger_than_what_holds(share: float) -> None:
    slack = Decimal(share) * Decimal("1e-9")  # ten digits
    assert number(at_most(share)) >= Decimal(share) - slack
    assert number(confidence(share)) <= 1 - Decimal(share) + slack
    assert number(at_most(share)) <= Decimal(share) * Decimal("1.011")
    assert len(at_most(share).removesuffix(" %").replace(".", "").lstrip("0")) <= 6
    assert "E" not in at_most(share) + confidence(share)


def test_measured_shares_have_three_digits() -> None:
    assert [percent(s) for s in (0.966667, 0.0043219, 1.0, 0.0)] == [
        "96.7 %", "0.432 %", "100 %", "0 %",
    ]  # fmt: skip
