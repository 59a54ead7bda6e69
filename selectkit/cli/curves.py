"""Training curves in the terminal, redrawn while a head is trained; nothing without a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from selectkit.heads import Epoch

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 50


def sparkline(values: list[float], width: int = WIDTH) -> str:
    """Draw numbers as a line of bars, the last of each span when there are more than fit.

    Args:
        values: Finite numbers, at least one.
        width: Most characters.

    Returns:
        One bar per number or span, the lowest for the smallest.
    """
    n = len(values)
    shown = values if n <= width else [values[(i + 1) * n // width - 1] for i in range(width)]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(BARS[round((value - low) / step)] for value in shown)


class Curves:
    """What the epochs of one training have given so far."""

    def __init__(self, epochs: int, criterion: str) -> None:
        """Nothing yet.

        Args:
            epochs: Most epochs.
            criterion: Name of the criterion.
        """
        self._epochs, self._criterion = epochs, criterion
        self._name, self._number = "", 0
        self._series: dict[str, list[float]] = {}

    def add(self, name: str, epoch: "Epoch") -> None:
        """Take over a finished epoch; another training begins new curves."""
        if name != self._name:
            self._name, self._series = name, {}
        self._number = epoch.epoch
        values = {"train loss": epoch.train_loss, self._criterion: epoch.criterion}
        for what, value in {**values, **epoch.parts}.items():
            if value is not None and isfinite(value):
                self._series.setdefault(what, []).append(value)

    def __rich__(self) -> Group:
        """Return the picture."""
        lines = [Text(f"{self._name}: epoch {self._number} of at most {self._epochs}")]
        for what, values in self._series.items():
            lines.append(Text(f"  {what[:18]:<18} {values[-1]:>10.4g}  {sparkline(values)}"))
        best = self._series.get(self._criterion)
        if best:
            # A resumed training shows the epochs since then.
            ago = len(best) - 1 - best.index(min(best))
            lines.append(Text(f"  best {self._criterion} {min(best):.4g}, {ago} epochs ago"))
        return Group(*lines)


@contextmanager
def live_curves(epochs: int, criterion: str, hidden: bool) -> Iterator[Curves]:
    """Show curves on standard error while the block lasts, if that is a terminal.

    Args:
        epochs: Most epochs of one training.
        criterion: Name of the criterion.
        hidden: True when a program reads the output.

    Yields:
        The curves, to be given epochs.
    """
    curves = Curves(epochs, criterion)
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield curves
        return
    with Live(curves, console=console, refresh_per_second=8, transient=True):
        yield curves
