"""Words and numbers of the report: formats, names of metrics, texts that replace pictures."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from math import isfinite, isnan

from selectkit.report.model import Reliability
from selectkit.report.parts import Estimate

MORE_IS_BETTER = frozenset({"accuracy", "auroc_failure", "coverage"})
"""Of the metrics that runs are compared by."""

# name -> label, explanation, whether it is a rate shown in percent
METRICS: dict[str, tuple[str, str, bool]] = {
    "coverage": ("Coverage", "Share of images decided automatically.", True),
    "error": ("Error among decided", "Wrong decisions among the automatic ones.", True),
    "selective_risk": ("Error among decided", "Wrong decisions among the automatic ones.", True),
    "accuracy": (
        "Accuracy",
        "Share of right predictions over all images, deferred ones too.",
        True,
    ),
    "balanced_accuracy": ("Balanced accuracy", "Mean over the classes of the share found.", True),
    "mcc": ("Matthews correlation", "1 is perfect, 0 is chance; robust to rare classes.", False),
    "top_error": (
        "Most probable class wrong",
        "Among accepted, whatever else their set holds.",
        True,
    ),
    "top_fnr": ("FNR of the most probable class", "Among the positives that are accepted.", True),
    "top_miss_rate": ("Miss rate of the most probable class", "Of all positives.", True),
    "top_fpr": ("FPR of the most probable class", "Among the negatives that are accepted.", True),
    "set_coverage": ("True class in the set", "Of images that pass the score.", True),
    "set_fnr": ("Positive class not in the set", "Of positives that pass the score.", True),
    "mean_set_size": ("Mean size of a set", "Classes, of images that pass the score.", False),
    "singleton_share": ("Sets of a single class", "Of images that pass the score.", True),
    "singleton_error": ("Wrong among single classes", "Of sets that are a single class.", True),
    "mean_cost": (
        "Mean cost",
        "Of an image, in the unit that costs were given in.",
        False,
    ),
    "auroc": ("AUROC", "Chance that a positive scores above a negative.", False),
    "fnr": ("FNR", "Missed positives among the positives decided automatically.", True),
    "miss_rate": ("Miss rate", "Positives wrongly cleared, of all positives.", True),
    "fpr": ("FPR", "False alarms among the negatives decided automatically.", True),
    "augrc": (
        "AUGRC",
        "Mean risk of an undetected failure over all thresholds. Less is better.",
        False,
    ),
    "aurc": ("AURC", "Area under the risk-coverage curve. Less is better.", False),
    "e_augrc": ("Excess AUGRC", "AUGRC beyond that of a perfect ranking.", False),
    "e_aurc": ("Excess AURC", "AURC beyond that of a perfect ranking.", False),
    "auroc_failure": (
        "Failure AUROC",
        "Chance that a right prediction outranks a wrong one.",
        False,
    ),
    "risk_at_coverage": ("Risk at coverage", "Error when this share is decided.", True),
    "coverage_at_risk": ("Coverage at risk", "Largest share decided at this error.", True),
    "ece": ("ECE", "Mean gap between claimed and actual accuracy, 15 equal bins.", False),
    "ece_null_level": (
        "ECE of perfect probabilities",
        "What noise alone would show on this many images.",
        False,
    ),
    "fnr_all": ("FNR, all decided", "Missed positives if nothing were deferred.", True),
    "fpr_all": ("FPR, all decided", "False alarms if nothing were deferred.", True),
    "mce": ("MCE", "Largest such gap of any bin.", False),
    "classwise_ece": ("Class-wise ECE", "ECE of every class probability, averaged.", False),
    "smooth_ece": ("Smooth ECE", "Calibration error without bins.", False),
    "nll": ("Log loss", "Mean negative log-likelihood in nats. Less is better.", False),
    "brier": (
        "Brier score",
        "Squared error of the probabilities, summed over classes, 0 to 2.",
        False,
    ),
}
# the parts of the table of metrics, in this order; what is in none of them comes last
PARTS: dict[str, tuple[str, ...]] = {
    "This policy: what it decides": (
        *("coverage", "error", "selective_risk", "fnr", "fpr", "miss_rate", "mean_cost"),
        *("top_error", "top_fnr", "top_fpr", "top_miss_rate"),
    ),
    "This policy: its sets": (
        *("set_coverage", "set_fnr", "mean_set_size", "singleton_share", "singleton_error"),
    ),
    "If every image were decided": (
        *("accuracy", "balanced_accuracy", "mcc", "fnr_all", "fpr_all", "auroc"),
    ),
    "How well the score ranks, at any threshold": (
        *("aurc", "augrc", "e_aurc", "e_augrc", "auroc_failure"),
        *("risk_at_coverage", "coverage_at_risk"),
    ),
    "The probabilities": (
        *("ece", "ece_null_level", "mce", "classwise_ece", "smooth_ece", "nll", "brier"),
    ),
}
RISKS = ("error", "fnr", "miss_rate", "fpr")
SCORES = {
    "msp": "the probability of the predicted class",
    "margin": "the lead of the predicted class over the next one",
    "neg_entropy": "how concentrated the probabilities are",
    "energy": "the logarithm of the summed exponentials of the logits",
    "max_logit": "the largest logit",
    "mahalanobis": "minus the distance to the nearest class in the features",
    "knn": "minus the distance to the nearest training images",
    "vim": "energy, less what of the features the training images do not span",
    "react": "energy, with the largest activations cut off",
    "residual": "minus what of the features the training images do not span",
    "gate": "the trained gate: log-odds that the prediction is right",
}
UNIT = "\u00a0%"  # the space must not break
PROMISES = {
    "pac": "Certified",
    "expectation": "Holds on average",
    "none": "No guarantee",
    "infeasible": "Not certifiable",
}


def text(words: str) -> str:
    """Return words as HTML text that is also safe inside a quoted attribute."""
    return escape(words, quote=True)


def prose(words: str) -> str:
    """Return a sentence as HTML text in which no line ends between a number and its "%"."""
    return text(words.replace(" %", UNIT))


def metric(name: str) -> tuple[str, str, bool]:
    """Return how a metric is presented.

    Args:
        name: Name of the metric, possibly with a parameter: "risk_at_coverage@0.8".

    Returns:
        Label, explanation (may be empty), and whether it is a rate shown in percent. An unknown
        metric is presented under its own name.
    """
    stem, _, parameter = name.partition("@")
    label, explanation, rate = METRICS.get(stem, (stem.replace("_", " "), "", False))
    return (f"{label} {_parameter(parameter)}" if parameter else label), explanation, rate


def parted(metrics: Mapping[str, Estimate]) -> list[tuple[str, list[str]]]:
    """Return the names of metrics by the part of the table in which they stand.

    Args:
        metrics: By name, possibly with parameters.

    Returns:
        Heading and names of every part that is not empty; names in the order of the part, those
        with parameters as they came.
    """
    stems = {name: name.partition("@")[0] for name in metrics}
    parts = [
        (part, [name for stem in known for name in metrics if stems[name] == stem])
        for part, known in PARTS.items()
    ]
    everywhere = {stem for known in PARTS.values() for stem in known}
    parts.append(("Further figures", [name for name in metrics if stems[name] not in everywhere]))
    return [(part, names) for part, names in parts if names]


def about_score(score: str) -> str:
    """Return the name of a score with what it is, where that is known."""
    return f"{score} ({SCORES[score]})" if score in SCORES else score


def percent(value: float) -> str:
    """Return a rate as text, for instance "2 %", "0.61 %", "> 99.9 %"; a dash for NaN."""
    if isnan(value):
        return "–"
    hundred = 100 * value
    if abs(hundred - round(hundred)) < 1e-9:
        return f"{round(hundred)}{UNIT}"
    if 0 < hundred < 0.005:
        return f"< 0.01{UNIT}"
    if 99.95 <= hundred < 100:
        return f"> 99.9{UNIT}"
    return f"{hundred:.2f}{UNIT}" if abs(hundred) < 9.95 else f"{hundred:.1f}{UNIT}"


def number(value: float) -> str:
    """Return a plain number as text, for instance "0.9012", "0.0127", "3"; a dash for NaN."""
    if isnan(value):
        return "–"
    if not isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value) or abs(value) >= 1000:
        return f"{round(value):,}"
    return f"{value:#.4g}".rstrip(".") if abs(value) >= 0.1 else f"{value:#.3g}"


def cost(value: float) -> str:
    """Return what something costs in four digits, without zeros at the end or an exponent."""
    if not isfinite(value):
        return number(value)
    rounded = Decimal(f"{value:.4g}").normalize()
    return f"{rounded:,f}"


def interval(estimate: Estimate, rate: bool) -> str:
    """Return the 95 % interval as text, a dash where there is none."""
    _, low, high = estimate
    if isnan(low) or isnan(high):
        return "–"
    if rate:
        return f"{percent(low).removesuffix(UNIT)} to {percent(high)}"
    return f"{number(low)} to {number(high)}"


def cost_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a cost as text, a dash where there is none."""
    _, low, high = estimate
    return "–" if isnan(low) or isnan(high) else f"{cost(low)} to {cost(high)}"


def risks_named(target: str) -> list[str]:
    """Return what the risks that a target names are, one sentence each."""
    words = set(re.findall(r"\w+", target))
    return [f"{name}: {METRICS[name][1]}" for name in RISKS if name in words]


def shorten_all(names: Sequence[str], length: int) -> list[str]:
    """Return names of at most `length` characters, cut where it leaves them apart."""
    cut = [name if len(name) <= length else name[: length - 1].rstrip() + "…" for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    return [shorten(name, length) for name in names]


def shorten(text: str, length: int) -> str:
    """Return text of at most `length` characters, cut in the middle."""
    if len(text) <= length:
        return text
    keep = length - 1
    return text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]


def calibration_error(bins: Reliability) -> str:
    """Return one sentence with the ECE and its null level."""
    text = f"Expected calibration error {number(bins.ece)}"
    if isnan(bins.null_level):
        return text + "."
    text += f"; perfect probabilities would show {number(bins.null_level)} on this many images."
    if isnan(bins.smooth_error):
        return text
    return f"{text} Without bins: {number(bins.smooth_error)}."


def _parameter(text: str) -> str:
    try:
        return percent(float(text))
    except ValueError:
        return text
