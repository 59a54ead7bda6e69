"""What a sweep found: its configurations, the winner, and what the winner is worth."""

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from selectkit.artifact import json_values
from selectkit.config import FitConfig
from selectkit.errors import ConfigError
from selectkit.pipeline.fit import FitSummary
from selectkit.pipeline.reestimate import Reestimate
from selectkit.pipeline.sweep_file import read_sweep

FIGURES = ("criterion", "nll", "augrc", "accuracy", "epochs", "won")
IDLE = "-"
_HIGHER_FIRST = {"accuracy", "won"}


@dataclass(frozen=True)
class Trial:
    """One configuration of a sweep, judged on val_select.

    Attributes:
        number: From 1, in the order of the file.
        settings: The settings that vary, and that its head looks at.
        criterion: What the choice goes by, lower is better; None when there is no head.
        nll: Mean negative log-likelihood, nats.
        augrc: Of the maximal softmax probability.
        accuracy: Share of right predictions.
        epochs: Epochs that were trained; None for heads that are not.
        won: Share of resamples of val_select in which it was the best.
        error: Why there is no head, or None.
    """

    number: int
    settings: dict[str, Any]
    criterion: float | None = None
    nll: float | None = None
    augrc: float | None = None
    accuracy: float | None = None
    epochs: int | None = None
    won: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep found.

    Attributes:
        fitted: The run of the winner.
        select_by: The criterion.
        varied: The settings that vary.
        trials: One per configuration, in the order of the file.
        winner: Number of the trial whose head is kept.
        estimate: What the winner is worth on rows it was not chosen by; None for one configuration.
        seconds: Wall time.
    """

    fitted: FitSummary
    select_by: str
    varied: tuple[str, ...]
    trials: tuple[Trial, ...]
    winner: int
    estimate: Reestimate | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is undefined is null."""
        return {
            "select_by": self.select_by,
            "winner": self.winner,
            "trials": [asdict(trial) for trial in self.trials],
            "reestimate": self._estimate(),
            "seconds": self.seconds,
        }

    def _estimate(self) -> dict[str, Any] | None:
        e = self.estimate
        if e is None:
            return None
        values = {"naive": e.naive, "value": e.value, "low": e.low, "high": e.high}
        return {**json_values(values), "resamples": e.n_replicates}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table, any of which it can be sorted by."""
        return ("number", *self.varied, *FIGURES)

    def sorted_by(self, column: str) -> list[Trial]:
        """Return the trials, best first where a column has a better end; failed ones last.

        Of equal ones the one of the lowest NLL comes first.
        """

        def key(trial: Trial) -> tuple[bool, Any]:
            varies = column in self.varied
            value = trial.settings.get(column) if varies else getattr(trial, column)
            if value is None:
                return True, 0
            if isinstance(value, bool | int | float):
                return False, (0, -value if column in _HIGHER_FIRST else value, "")
            return False, (1, 0, str(value))

        found = sorted(self.trials, key=lambda t: (t.criterion is None, t.nll or 0, t.number))
        known = [t for t in found if not key(t)[0]]
        return [*sorted(known, key=key), *(t for t in found if key(t)[0])]

    def table(self, sort: str = "criterion") -> tuple[list[str], list[list[str]]]:
        """Return header and rows; the winner is marked with *."""
        rows = []
        shown = [name for name in FIGURES if name != self.select_by]
        for trial in self.sorted_by(sort):
            mark = f"{trial.number}{' *' if trial.number == self.winner else ''}"
            figures = [self._figure(trial, name) for name in shown]
            settings = [_shown(trial.settings.get(name, IDLE)) for name in self.varied]
            rows.append([mark, *settings, *figures])
        names = [self.select_by if name == "criterion" else name for name in shown]
        return ["number", *self.varied, *names], rows

    def _figure(self, trial: Trial, name: str) -> str:
        value = getattr(trial, name)
        if value is None:
            return IDLE
        if name == "criterion":
            return _signed(self.select_by, value)
        return _shown(value)

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        failed = sum(t.criterion is None for t in self.trials)
        kept = self.trials[self.winner - 1].settings
        settings = ", ".join(f"{name} = {_shown(value)}" for name, value in kept.items())
        return [
            f"{len(self.trials)} configurations in {self.seconds:.1f} s"
            + (f", {failed} without a head" if failed else "")
            + f"; kept number {self.winner}"
            + (f": {settings}" if settings else ""),
            f"table: {self.fitted.run / 'sweep.csv'}, pictures: {self.fitted.run / 'sweep.html'}",
            *self.fitted.lines(),
        ]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should look at."""
        failed = [t for t in self.trials if t.error is not None]
        lines = [f"number {t.number}: {t.error}" for t in failed[:3]]
        if self.estimate is not None:
            lines.append(self._curse(self.estimate))
        return (*self.fitted.warnings, *lines)

    def _curse(self, e: Reestimate) -> str:
        curse = "can be flattered (winner's curse), which does not show here"
        if not e.value <= e.naive:
            curse = "is flattered (winner's curse)"
        line = (
            f"the best of {len(self.trials)} on the rows it was chosen by {curse}: "
            f"{self.select_by} = {_signed(self.select_by, e.naive)}"
        )
        if not isfinite(e.value):
            return line + "; val_select has too few groups to say by how much"
        ends = sorted((_signed(self.select_by, e.low), _signed(self.select_by, e.high)), key=float)
        return (
            f"{line}. Chosen on resamples of val_select and judged on what they left out: "
            f"{_signed(self.select_by, e.value)} (95 % {ends[0]} to {ends[1]}); number "
            f"{self.winner} was the best in {e.won[self.winner - 1]:.0%} of the resamples. "
            "The choice of epochs still flatters; report what `selectkit evaluate` says"
        )


def require_column(sort: str, file: str | Path, config: FitConfig) -> None:
    """Refuse a column that the table of a sweep will not have, before anything is fitted.

    Args:
        sort: Name of the column.
        file: The sweep.
        config: Settings of the command.

    Raises:
        ConfigError: With the columns there are.
    """
    columns = ("number", *read_sweep(Path(file), config).varied, *FIGURES)
    if sort not in columns:
        raise ConfigError(f"--sort {sort}: the table has {', '.join(columns)}.")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def signed(select_by: str) -> int:
    """Return by what a criterion is multiplied for people: a coverage has its sign turned back."""
    return -1 if select_by.startswith("coverage") else 1


def _signed(select_by: str, value: float) -> str:
    return f"{signed(select_by) * value:.4g}"
