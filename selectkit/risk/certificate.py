"""What is promised, to whom, on which evidence; or why nothing can be promised."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from selectkit.errors import ArtifactError
from selectkit.fields import Fields
from selectkit.percent import at_most, confidence, percent

KINDS = ("pac", "expectation", "none")
_PROMISES = {
    "error": "of automatically decided images are wrong",
    "fnr": "of automatically decided positives are missed",
    "fpr": "of automatically decided negatives are false alarms",
    "miss_rate": "of all positives are decided automatically and missed",
    "false_alarm": "of all negatives are decided automatically and false alarms",
    "deferral": "of images are deferred",
    "not_selected": "of images are deferred by their score alone, whatever their set",
    "set_error": "of accepted images have a prediction set without the true class",
    "set_fnr": "of accepted positives have a prediction set without the positive class",
}
_UNITS = {
    "fnr": "positives",
    "set_fnr": "positives",
    "miss_rate": "positives",
    "fpr": "negatives",
    "false_alarm": "negatives",
}


def unit(risk: str) -> str:
    """Return what the samples behind a risk are called: positives, negatives or samples."""
    return _UNITS.get(risk, "samples")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A threshold and the promise that comes with it: accept iff confidence >= threshold.

    Attributes:
        risk: What is bounded: "error", "fnr", "miss_rate", "fpr" or another name.
        alpha: The promise: the true risk at the threshold is at most alpha.
        delta: Probability, over the draw of the calibration split, that the promise fails.
        kind: "pac" (holds with probability 1 - delta), "expectation" (holds on average over
            calibration splits) or "none".
        method: How it was found.
        threshold: Accept iff confidence >= threshold.
        n: Samples the bound could draw on: all that were passed in.
        n_accepted: Samples at or above the threshold.
        errors: Errors among the accepted; for "deferral" the deferred samples.
        risk_upper: Clopper-Pearson upper bound of the risk at the threshold, level delta (betting
            bound for losses between 0 and 1). It is pointwise: a description of this sample at a
            threshold chosen on it, never above alpha. What is certified is alpha. For the kind
            "expectation" it is (sum of losses + largest loss) / (n + 1).
        coverage: n_accepted / n.
        coverage_lower: Lower bound of the true coverage, level delta, valid for all thresholds at
            once (Dvoretzky-Kiefer-Wolfowitz with Massart's constant).
        split: Fingerprint of the calibration split, or None when unknown.
        assumptions: What must hold for the promise to hold.
        grouped: True when one sample of each of several groups was used: the promise is then
            about a random sample of a random group, every group counting the same.
        about: Whom the promise is about, such as "class cat" or "group north"; None: everyone.
        mean_loss: Mean loss of the samples that the risk is about, where losses are not 0 or 1; an
            error is a loss above 0 then. None: errors say it all.
    """

    risk: str
    alpha: float
    delta: float
    kind: str
    method: str
    threshold: float
    n: int
    n_accepted: int
    errors: int
    risk_upper: float
    coverage: float
    coverage_lower: float
    split: str | None = None
    assumptions: tuple[str, ...] = ()
    grouped: bool = False
    about: str | None = None
    mean_loss: float | None = None

    @property
    def feasible(self) -> bool:
        """True: a certificate is the positive answer."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; an infinite threshold becomes "inf" or "-inf"."""
        document = asdict(self)
        document["assumptions"] = list(self.assumptions)
        if math.isinf(self.threshold):
            document["threshold"] = "inf" if self.threshold > 0 else "-inf"
        for later in ("about", "mean_loss"):
            if document[later] is None:
                del document[later]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the certificate that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The certificate.

        Raises:
            ArtifactError: If fields are missing, unknown or malformed.
        """
        read = _read(document, cls, "certificate")
        if read.text("kind") not in KINDS:
            raise read.wrong("kind", f"one of {', '.join(KINDS)}")
        assumptions = tuple(read.items("assumptions"))
        if not all(isinstance(one, str) for one in assumptions):
            raise read.wrong("assumptions", "texts")
        found = cls(
            risk=read.text("risk"),
            alpha=read.level("alpha"),
            delta=read.level("delta"),
            kind=read.text("kind"),
            method=read.text("method"),
            threshold=read.threshold("threshold"),
            n=read.count("n"),
            n_accepted=read.count("n_accepted"),
            errors=read.count("errors"),
            risk_upper=read.number("risk_upper", 0, 1),
            coverage=read.number("coverage", 0, 1),
            coverage_lower=read.number("coverage_lower", 0, 1),
            split=read.maybe_text("split"),
            assumptions=assumptions,
            grouped=read.flag("grouped"),
            about=read.maybe_text("about"),
            mean_loss=read.maybe_number("mean_loss", 0),
        )
        if max(found.n_accepted, found.errors) > found.n:
            raise ArtifactError(
                f"certificate is impossible: {found.n_accepted} accepted and {found.errors} errors "
                f"among {found.n}. Calibrate again."
            )
        return found

    def promise(self) -> str:
        """Return what is promised, without how sure it is."""
        promise = f"at most {at_most(self.alpha)} " + _PROMISES.get(
            self.risk, f"is the {self.risk}"
        )
        return promise if self.about is None else f"{promise} ({self.about})"

    def evidence(self) -> str:
        """Return the counts behind the promise."""
        coverage = f"coverage {percent(self.coverage)}"
        if self.about is not None:  # the coverage is that of all images
            coverage += " of all"
        if self.risk in {"deferral", "not_selected"}:
            return f"{self.errors} of {self.n} deferred; {coverage}"
        errors = _count(self.errors, "error")
        if self.mean_loss is not None:
            errors = f"mean loss {self.mean_loss:.3g}, {errors}"
        return f"{errors} among {self.n_accepted} accepted {unit(self.risk)}; {coverage}"

    def sentence(self) -> str:
        """Return the promise as one English sentence."""
        evidence = f"({self.evidence()})"
        promise = self.promise()
        if self.grouped:
            promise += ", counting one image of each group"
        if self.kind == "pac":
            return (
                f"With {confidence(self.delta)} confidence over the draw of the calibration split, "
                f"{promise} {evidence}."
            )
        if self.risk == "coverage":
            return (
                "No guarantee: the threshold was set to accept the most confident "
                f"{at_most(self.alpha)} of the calibration split {evidence}."
            )
        if self.kind == "expectation":
            return f"On average over draws of the calibration split, {promise} {evidence}."
        return f"No guarantee: the target was that {promise} {evidence}."


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The answer when no threshold can be certified.

    Attributes:
        risk: What was to be bounded.
        alpha: The bound asked for.
        delta: The allowed probability of failure.
        n: Samples the bound could draw on.
        reason: What stood in the way.
        needs: Number of samples (positives, negatives) in the calibration split that would suffice
            if the best error rate seen, and its share of confident samples, stayed: an estimate
            from few samples. None when no number would, or none can be told; the reason says which.
        on_average: True when only a promise on average over calibration splits was asked for.
    """

    risk: str
    alpha: float
    delta: float
    n: int
    reason: str
    needs: int | None
    on_average: bool = False

    @property
    def feasible(self) -> bool:
        """False: nothing is promised."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        document = asdict(self)
        if not self.on_average:
            del document["on_average"]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the answer that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The answer.

        Raises:
            ArtifactError: If fields are missing, unknown or malformed.
        """
        read = _read(document, cls, "infeasible")
        return cls(
            risk=read.text("risk"),
            alpha=read.number("alpha", 0, 1),
            delta=read.level("delta"),
            n=read.count("n"),
            reason=read.text("reason"),
            needs=read.maybe_count("needs", 1),
            on_average="on_average" in read and read.flag("on_average"),
        )

    def message(self) -> str:
        """Return one line that says what is infeasible, why, and what would suffice."""
        sure = f"with confidence {confidence(self.delta)}"
        if self.on_average:
            sure = "on average over calibration splits"
        line = (
            f"INFEASIBLE: {self.risk} <= {self.alpha:g} {sure} cannot be certified: {self.reason}"
        )
        if self.needs is None:
            return f"{line}."
        return f"{line}, needs at least {self.needs} {unit(self.risk)}."


def _read(document: Any, cls: type[Any], what: str) -> Fields:
    read = Fields.of(document, what)
    names = {field.name for field in fields(cls)}
    later = {"about", "mean_loss", "on_average"}  # files of the first release lack it
    if not names - later <= set(document) <= names:
        raise ArtifactError(
            f"{what} must have the fields {sorted(names - later)}; "
            f"missing {sorted(names - later - set(document))}, "
            f"unknown {sorted(set(document) - names)}."
        )
    return read


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
