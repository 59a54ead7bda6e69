"""Several targets kept together: the rates that a policy must not exceed, and what they count."""

from collections.abc import Sequence
from typing import NamedTuple

from selectkit.errors import ConfigError
from selectkit.fields import Fields
from selectkit.policies.target import POSITIVE_RISKS, RISKS, Target

DEFERRAL = "deferral"


class Constraint(NamedTuple):
    """A rate that must not exceed alpha: a risk of accepted rows, or the share deferred."""

    risk: str
    alpha: float


def constraints(target: Target | Sequence[Target]) -> tuple[Constraint, ...]:
    """Return what several targets ask of one policy, risks first.

    Args:
        target: One or more.

    Returns:
        The constraints; at most one of them is on the share deferred.

    Raises:
        ConfigError: If there are none, one risk is given twice, or one promises nothing.
    """
    found = [
        Constraint(t.risk, t.alpha) for t in ([target] if isinstance(target, Target) else target)
    ]
    if not found:
        raise ConfigError("no target: say what to promise, for instance error=0.05.")
    names = [c.risk for c in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"target {twice[0]} is given more than once.")
    if "coverage" in names:
        share = 1 - found[names.index("coverage")].alpha
        raise ConfigError(
            "a target coverage=RATE promises nothing and stands alone; ask for "
            f"deferral={share:.6g} to certify that at most this share is deferred."
        )
    return tuple(sorted(found, key=lambda c: c.risk == DEFERRAL))


def read_constraints(document: Fields) -> tuple[Constraint, ...]:
    """Return the targets of a document.

    Args:
        document: With the field "targets".

    Returns:
        The constraints.

    Raises:
        ArtifactError: If there are none, or one is malformed or unknown.
    """
    found = []
    for one in document.items("targets"):
        read = Fields.of(one, f"a target of {document.what}")
        if read.text("risk") not in RISKS:
            raise read.wrong("risk", f"one of {', '.join(RISKS)}")
        found.append(Constraint(read.text("risk"), read.level("alpha")))
    return tuple(found)


def check_positive(wanted: Sequence[Constraint], positive: int | None, n_classes: int) -> None:
    """Refuse a missing or unknown positive class.

    Args:
        wanted: The constraints.
        positive: Code of the positive class, or None.
        n_classes: K.

    Raises:
        ConfigError: If a risk is about positives and none is named, or the code is no class.
    """
    about = [c for c in wanted if c.risk in POSITIVE_RISKS]
    if positive is None and about:
        raise ConfigError(
            f"--target {about[0].risk}={about[0].alpha:g} needs to know the positive class: name "
            "it with --positive."
        )
    if positive is not None and not 0 <= positive < n_classes:
        raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")
