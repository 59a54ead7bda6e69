"""Training curves in the terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from selectkit.cli import curves
from selectkit.cli.curves import BARS, Curves, live_curves, sparkline
from selectkit.heads import Epoch


def test_a_sparkline_spans_its_values() -> None:
    assert sparkline([0.0, 1.0, 2.0, 7.0]) == "▁▂▃█"
    assert sparkline([3.0, 3.0]) == BARS[0] * 2
    falling = sparkline([float(-i) for i in range(1000)], width=50)
    assert len(falling) == 50
    assert falling[0] == BARS[-1]
    assert falling[-1] == BARS[0]


def _text(picture: Curves) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(picture)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_picture_has_every_series_and_the_best() -> None:
    picture = Curves(9, "nll")
    for i, value in enumerate((0.9, 0.5, 0.7, None)):
        picture.add("fit", Epoch(i + 1, 1.0 / (i + 1), value, 0.1, {"coverage": 0.8}))
    text = _text(picture)
    assert "fit: epoch 4 of at most 9" in text
    for series in ("train loss", "nll", "coverage"):
        assert series in text
    assert "best nll 0.5, 1 epochs ago" in text
    picture.add("fold-1", Epoch(1, 1.0, 0.3, 0.1))
    assert "best nll 0.3, 0 epochs ago" in _text(picture)


@pytest.mark.parametrize(("terminal", "hidden"), [(True, True), (False, False)])
def test_nothing_is_drawn_for_programs_and_files(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, hidden: bool
) -> None:
    out = io.StringIO()

    def console(**_: Any) -> Console:
        return Console(file=out, force_terminal=terminal)

    monkeypatch.setattr(curves, "Console", console)
    with live_curves(3, "nll", hidden) as picture:
        picture.add("fit", Epoch(1, 1.0, 0.3, 0.1))
    assert out.getvalue() == ""


def test_a_terminal_sees_curves_while_the_block_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(curves, "Console", lambda **_: Console(file=out, force_terminal=True))
    with live_curves(3, "nll", False) as picture:
        picture.add("fit", Epoch(1, 1.0, 0.3, 0.1))
    assert "fit: epoch 1 of at most 3" in out.getvalue()
