"""What a user may ask for: risks and the rates they must not exceed, or a coverage to reach."""

from dataclasses import dataclass
from typing import Self

from selectkit.errors import ConfigError

RISKS: dict[str, str] = {
    "error": "wrong predictions among accepted rows",
    "fnr": "missed positives among accepted positives",
    "miss_rate": "accepted and missed positives among all positives",
    "fpr": "false alarms among accepted negatives",
    "false_alarm": "accepted false alarms among all negatives",
    "deferral": "deferred rows among all",
    "coverage": "accepted rows among all; nothing is promised about errors",
}
"""Every target by name, with what its rate counts."""

POSITIVE_RISKS = frozenset({"fnr", "miss_rate", "fpr", "false_alarm"})
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
        if "=" in rate:
            raise ConfigError(
                f"--target {text}: one target is asked for here, several only by calibrate."
            )
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


class Targets(tuple[Target, ...]):
    """Targets to be kept together, with one probability of failure for all of them.

    Examples:
        >>> str(Targets.parse("fnr=0.02, fpr=0.05,deferral=0.3"))
        'fnr=0.02,fpr=0.05,deferral=0.3'
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "RISK=RATE,RISK=RATE,...".

        Args:
            text: One target or several, separated by commas.

        Returns:
            The targets, in the order given.

        Raises:
            ConfigError: If one cannot be read, one risk has two rates, or a coverage to reach is
                combined with a promise.
        """
        parts = text.split(",")
        if len(parts) > 1 and "=" not in parts[1]:  # a decimal comma: let Target say so
            parts = [text]
        targets = cls(Target.parse(part) for part in parts)
        risks = [target.risk for target in targets]
        twice = sorted({risk for risk in risks if risks.count(risk) > 1})
        if twice:
            raise ConfigError(f"--target {text}: {twice[0]} has two rates; keep the smaller one.")
        if "coverage" in risks and len(risks) > 1:
            raise ConfigError(
                f"--target {text}: coverage=RATE promises nothing and stands alone. Ask for "
                "deferral=RATE to certify that at most this share is deferred."
            )
        return targets

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return ",".join(map(str, self))


def _percentage(rate: str) -> float | None:
    """The rate meant by "2%" or "0,02", or None."""
    try:
        value = float(rate[:-1]) / 100 if rate.endswith("%") else float(rate.replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < 1 else None
