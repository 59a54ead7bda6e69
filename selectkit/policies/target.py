"""What a user may ask for: a risk and the rate it must not exceed, or a coverage to reach."""

from dataclasses import dataclass
from typing import Self

from selectkit.errors import ConfigError

RISKS: dict[str, str] = {
    "error": "wrong predictions among accepted rows",
    "fnr": "missed positives among accepted positives",
    "miss_rate": "accepted and missed positives among all positives",
    "fpr": "false alarms among accepted negatives",
    "coverage": "accepted rows among all; nothing is promised about errors",
}
"""Every target by name, with what its rate counts."""

POSITIVE_RISKS = frozenset({"fnr", "miss_rate", "fpr"})
"""Targets that need to know which class is the positive one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target such as fnr=0.02.

    Attributes:
        risk: A key of `RISKS`.
        alpha: In (0, 1): the largest allowed risk; for "coverage" the smallest allowed share.

    Examples:
        >>> Target.parse("fnr=0.02")
        Target(risk='fnr', alpha=0.02)
        >>> str(Target("coverage", 0.8))
        'coverage=0.8'
    """

    risk: str
    alpha: float

    def __post_init__(self) -> None:
        """Refuse what cannot be promised.

        Raises:
            ConfigError: If the risk is unknown or the rate is outside (0, 1).
        """
        if self.risk not in RISKS:
            raise ConfigError(
                f"--target {self.risk}={self.alpha:g}: unknown risk {self.risk!r}; "
                f"known: {', '.join(RISKS)}."
            )
        if not 0 < self.alpha < 1:
            raise ConfigError(
                f"--target {self}: the rate must lie strictly between 0 and 1"
                + (
                    f"; did you mean {self.risk}={self.alpha / 100:g}?"
                    if 1 < self.alpha < 100
                    else "."
                )
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "RISK=RATE".

        Args:
            text: For instance "fnr=0.02" or "coverage=0.8".

        Returns:
            The target.

        Raises:
            ConfigError: If the form, the risk or the rate cannot be used.
        """
        risk, equals, rate = (part.strip() for part in text.lower().partition("="))
        if not equals:
            raise ConfigError(
                f"--target {text}: expected RISK=RATE, for instance fnr=0.02; "
                f"known risks: {', '.join(RISKS)}."
            )
        if risk not in RISKS:
            raise ConfigError(f"--target {text}: unknown risk {risk!r}; known: {', '.join(RISKS)}.")
        try:
            alpha = float(rate)
        except ValueError:
            hint = _percentage(rate)
            raise ConfigError(
                f"--target {text}: {rate!r} is not a number"
                + (f"; did you mean {risk}={hint:g}?" if hint else f"; write {risk}=0.02.")
            ) from None
        return cls(risk, alpha)

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return f"{self.risk}={self.alpha:g}"


def _percentage(rate: str) -> float | None:
    """The rate meant by "2%" or "0,02", or None."""
    try:
        value = float(rate[:-1]) / 100 if rate.endswith("%") else float(rate.replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < 1 else None
