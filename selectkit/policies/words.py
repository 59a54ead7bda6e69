"""What threshold policies say of themselves, in sentences and in JSON."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Context
from math import isinf
from typing import Any

from selectkit.errors import ArtifactError, ConfigError
from selectkit.fields import Fields
from selectkit.percent import confidence
from selectkit.policies.costs import Costs
from selectkit.policies.target import Target, Targets
from selectkit.risk import Certificate, Infeasible


def sentences(
    certificates: Sequence[Certificate],
    infeasible: Infeasible | None,
    costs: Costs | None = None,
    cost: float | None = None,
) -> tuple[str, ...]:
    """Return the promises of a policy, or why there are none.

    Args:
        certificates: All of them, with one delta for all together.
        infeasible: Why there are none.
        costs: What the rule was chosen by; None: by its coverage.
        cost: Mean cost of a calibration row under the rule.

    Returns:
        Complete sentences.
    """
    if infeasible is not None and infeasible.risk == "cost":
        return (f"INFEASIBLE: {infeasible.reason}.",)
    if infeasible is not None:
        return (infeasible.message(),)
    said = tuple(_sentence(c, costs) for c in certificates)
    if len(certificates) > 1 and all(c.kind == "pac" for c in certificates):
        c = certificates[0]
        one = ", counting one image of each group" if c.grouped else ""
        together = (
            f"With {confidence(c.delta)} confidence over the draw of the calibration split, "
            f"all of the following hold together{one}:"
        )
        said = (together, *(f"{_promise(c, costs)} ({c.evidence()})." for c in certificates))
    if costs is not None and cost is not None and all(c.risk != "cost" for c in certificates):
        said += (
            f"Of all certified rules this one had the smallest mean cost on the calibration rows, "
            f"{cost:.4g} per image with {costs}: an estimate, not a promise.",
        )
    return said


def _promise(c: Certificate, costs: Costs | None) -> str:
    if c.risk == "cost" and costs is not None:
        return f"the expected cost of an image is at most {no_less(c.alpha * costs.largest)}"
    return c.promise()


def _sentence(c: Certificate, costs: Costs | None) -> str:
    if c.risk != "cost" or costs is None:
        return c.sentence()
    one = ", counting one image of each group" if c.grouped else ""
    return (
        f"With {confidence(c.delta)} confidence over the draw of the calibration split, "
        f"{_promise(c, costs)}{one} ({costs}; {c.evidence()})."
    )


def no_less(value: float) -> str:
    """Return a bound in four digits, rounded up: rounded down it would promise more."""
    exact = value * (1 - 1e-12)  # what a product of floats adds to a round number is no bound
    return f"{Context(prec=4, rounding=ROUND_CEILING).create_decimal(exact).normalize():f}"


def number(value: float) -> float | str:
    """Return a threshold as JSON has it: infinities become "inf" and "-inf"."""
    return float(value) if not isinf(value) else "inf" if value > 0 else "-inf"


def fields(
    *,
    targets: Sequence[Target],
    delta: float,
    certificates: Sequence[Certificate],
    infeasible: Infeasible | None,
    costs: Costs | None,
    cost: float | None,
) -> dict[str, Any]:
    """Return the fields that tell what was asked, what is promised and why.

    Args:
        targets: What was asked for; may be empty when only costs were given.
        delta: Probability with which any promise may fail.
        certificates: What is promised.
        infeasible: Why nothing is.
        costs: What the rule was chosen by.
        cost: Mean cost of a calibration row.

    Returns:
        JSON values. One target is written as it always was, several as a list.
    """
    asked = [{"risk": t.risk, "alpha": t.alpha} for t in targets]
    document: dict[str, Any] = {
        "target": asked[0] if len(asked) == 1 else asked,
        "delta": delta,
        "certificate": certificates[0].to_dict() if certificates else None,
        "infeasible": infeasible and infeasible.to_dict(),
    }
    if len(certificates) > 1:
        document["certificates"] = [c.to_dict() for c in certificates]
    if costs is not None:
        document["costs"] = costs.to_dict()
        document["mean_cost"] = cost
    return document


def read_fields(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the arguments that `fields` was given.

    Args:
        document: The fields; others are ignored.
        what: What the policy is called in messages.

    Returns:
        The arguments by name.

    Raises:
        ArtifactError: If a field is missing or malformed, or a policy neither promises anything
            nor says why.
    """
    read = Fields(document, what)
    asked = read.value("target")
    listed = [asked] if isinstance(asked, Mapping) else read.items("target")
    delta, first, why = read.level("delta"), read.value("certificate"), read.value("infeasible")
    several = read.items("certificates") if "certificates" in read else []
    several = several or ([] if first is None else [first])
    try:
        targets = Targets(_target(Fields.of(one, f"the target of {what}")) for one in listed)
        costs = (
            _costs(Fields.of(document["costs"], "the set of costs")) if "costs" in read else None
        )
    except ConfigError as error:
        raise ArtifactError(f"{what} is malformed: {error}") from None
    cost = read.maybe_number("mean_cost")
    if costs is None and cost is not None:
        raise ArtifactError(f"{what} has a mean cost without costs. Calibrate again.")
    certificates = tuple(Certificate.from_dict(c) for c in several)
    infeasible = None if why is None else Infeasible.from_dict(why)
    if certificates and first is not None and certificates[0] != Certificate.from_dict(first):
        raise ArtifactError(f"{what} has two different first certificates. Calibrate again.")
    if bool(certificates) == (infeasible is not None):
        raise ArtifactError(
            f"{what} must either promise something or say why it does not. Calibrate again."
        )
    return {
        "targets": targets,
        "delta": delta,
        "certificates": certificates,
        "infeasible": infeasible,
        "costs": costs,
        "cost": cost,
    }


def _target(read: Fields) -> Target:
    return Target(read.text("risk"), read.level("alpha"))


def _costs(read: Fields) -> Costs:
    unknown = sorted(set(read.document) - {"miss", "false_alarm", "error", "defer"})
    if unknown:
        raise ArtifactError(f"costs {', '.join(map(repr, unknown))} are unknown.")
    return Costs(**{name: read.number(name, 0) for name in {**read.document, "defer": None}})


def check_promises(
    targets: Iterable[Target], delta: float, certificates: Sequence[Certificate], what: str
) -> None:
    """Refuse certificates that are not those of the targets.

    Args:
        targets: What was asked for; empty: costs alone.
        delta: Probability with which any promise may fail.
        certificates: What is promised.
        what: What the policy is called in messages.

    Raises:
        ArtifactError: If a target lacks its certificate or the reverse, or delta differs.
    """
    asked = {(t.risk, t.alpha) for t in targets}
    given = {(c.risk, c.alpha) for c in certificates}
    if (asked and asked != given) or any(c.delta != delta for c in certificates):
        raise ArtifactError(
            f"the certificates of {what} are not those of its target. Calibrate again."
        )
