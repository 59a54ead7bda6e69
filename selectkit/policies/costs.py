"""What mistakes and deferrals cost: the unit is the user's, only ratios matter for the choice."""

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit.errors import ConfigError
from selectkit.policies.outputs import Decision

Float64s = npt.NDArray[np.float64]

_FORM = "--cost miss=50,false_alarm=3,defer=1 for two classes, --cost error=20,defer=1 for more"


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of one decision by what it turns out to be; a right automatic decision costs nothing.

    Either `miss` and `false_alarm` (two classes) or `error` (any number of classes) is given.

    Attributes:
        defer: Cost of one deferred row, >= 0: what the second stage or the person costs.
        miss: Cost of an accepted positive that was called negative.
        false_alarm: Cost of an accepted negative that was called positive.
        error: Cost of any accepted wrong decision.

    Examples:
        >>> costs = Costs.parse("miss=50, defer=1, false_alarm=3")
        >>> costs.largest, str(costs)
        (50.0, 'miss=50,false_alarm=3,defer=1')
    """

    defer: float
    miss: float | None = None
    false_alarm: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        """Refuse costs that do not describe a trade-off.

        Raises:
            ConfigError: If a cost is negative or not finite, the set is incomplete or mixed, or
                no error costs anything.
        """
        given = self.to_dict()
        for name, value in given.items():
            if not (isfinite(value) and value >= 0):
                raise ConfigError(f"--cost {name}={value:g}: a cost must be a number >= 0.")
        if set(given) not in ({"defer", "error"}, {"defer", "miss", "false_alarm"}):
            raise ConfigError(
                f"--cost {self}: name defer and either error or both miss and false_alarm, "
                f"for instance {_FORM}."
            )
        if max(value for name, value in given.items() if name != "defer") == 0:
            raise ConfigError(f"--cost {self}: some error must cost more than nothing.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "NAME=COST,NAME=COST,...".

        Args:
            text: For instance "miss=50,defer=1,false_alarm=3" or "error=20,defer=1".

        Returns:
            The costs.

        Raises:
            ConfigError: If a name or a number cannot be used, or one is missing.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, float] = {}
        for part in text.lower().split(","):
            name, equals, number = (piece.strip() for piece in part.partition("="))
            if not equals or name not in known or name in values:
                raise ConfigError(
                    f"--cost {text}: expected NAME=COST, each name once, names "
                    f"{', '.join(sorted(known))}; for instance {_FORM}."
                )
            try:
                values[name] = float(number)
            except ValueError:
                raise ConfigError(f"--cost {text}: {number!r} is not a number.") from None
        if "defer" not in values:
            raise ConfigError(f"--cost {text}: defer is missing; for instance {_FORM}.")
        return cls(**values)

    @property
    def largest(self) -> float:
        """The largest cost that one row can have."""
        return float(max(self.to_dict().values()))

    @property
    def of_miss(self) -> float:
        """Cost of a missed positive."""
        return float(self.miss if self.error is None else self.error)  # type: ignore[arg-type]

    @property
    def of_alarm(self) -> float:
        """Cost of a false alarm."""
        return float(self.false_alarm if self.error is None else self.error)  # type: ignore[arg-type]

    def of(self, decision: Decision, labels: npt.NDArray[np.int64], positive: int) -> Float64s:
        """Return what each decision cost.

        Args:
            decision: The decisions of N rows.
            labels: Shape (N,), class codes.
            positive: Code of the positive class; any code when all errors cost the same.

        Returns:
            Shape (N,), in [0, `largest`].
        """
        wrong = np.where(labels == positive, self.of_miss, self.of_alarm)
        wrong = np.where(decision.prediction == labels, 0.0, wrong)
        return np.asarray(np.where(decision.accepted, wrong, self.defer), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return the given costs by name."""
        names = ("miss", "false_alarm", "error", "defer")
        return {name: float(v) for name in names if (v := getattr(self, name)) is not None}

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return ",".join(f"{name}={value:g}" for name, value in self.to_dict().items())
