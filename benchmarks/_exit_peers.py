"""The nearest offers of MAPIE and TorchCP as contenders; each is left out where it is missing.

None of them offers an exit policy, so each is used as its documentation suggests and the rest is
made up for it:

* MAPIE, one threshold: Learn-then-Test on the precision of "accept", 100 thresholds (its default).
* MAPIE, two thresholds: a predict function that abstains (NaN) between them, custom risks for the
  share of decided positives that are missed and of decided negatives that are false alarms, the
  smallest abstention rate; 171 pairs. Pairs at 0 or 1 are left out: one that decides nothing has
  the p-value NaN, and Holm's procedure, as it is written there (1.6.0), then rejects nothing.
* TorchCP: split conformal sets of the LAC score, which promise that a set lacks the true class with
  probability alpha on average. Everything is accepted, with its set; or, which nobody promises
  anything about, only sets of a single class are decided.
"""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from selectkit.pipeline.bench_contenders import (
    STORED,
    Contender,
    Fitted,
    Promise,
    at_threshold,
)
from selectkit.policies import Decision, ExitPolicy, Outputs, Targets, TwoSidedPolicy

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
NEEDS = {"mapie": ("mapie",), "torchcp": ("torchcp", "torch_geometric")}


def peers(targets: Targets, classes: int, delta: float, plain: bool) -> list[Contender]:
    """Return who is installed and can answer.

    Args:
        targets: What to keep.
        classes: K.
        delta: Probability with which a promise may fail.
        plain: Whether the rows know nothing but one confidence.

    Returns:
        The contenders.
    """
    found: list[Contender] = []
    installed = set(NEEDS) - set(missing())
    single = targets[0] if len(targets) == 1 else None
    if "mapie" in installed and single is not None and single.risk == "error":
        found += [
            Contender(
                f"MAPIE, {how}",
                partial(_precision, targets=targets, delta=delta, how=method),
                own=False,
            )
            for how, method in (("Holm", "bonferroni_holm"), ("fixed sequence", "fixed_sequence"))
        ]
    if "mapie" in installed and classes == 2 and {t.risk for t in targets} == {"fnr", "fpr"}:
        fit = partial(_abstaining, targets=targets, delta=delta)
        found.append(Contender("MAPIE, abstaining", fit, own=False))
    if "torchcp" in installed and single is not None and single.risk == "error" and not plain:
        found += [
            Contender("TorchCP, sets", partial(_sets, targets=targets, singletons=False),
                      "expectation", sets=True, own=False),
            Contender("TorchCP, singletons", partial(_sets, targets=targets, singletons=True),
                      "none", own=False),
        ]  # fmt: skip
    return found


def missing() -> list[str]:
    """Return which peers are not installed."""
    return [name for name, needs in NEEDS.items() if not all(map(find_spec, needs))]


def _precision(
    outputs: Outputs, labels: Labels, *, targets: Targets, delta: float, how: str
) -> Fitted | None:
    s, alpha = STORED(outputs), targets[0].alpha
    right = (outputs.prediction == labels).astype(np.int64)
    controller = _controller(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="precision", target_level=1 - alpha, confidence_level=1 - delta, fwer_method=how,
        **({"list_predict_params": np.linspace(0.99, 0, 100)} if how == "fixed_sequence" else {}),
    )  # fmt: skip
    best = _calibrated(controller, s[:, None], right)
    if best is None:
        return None
    fitted = at_threshold(float(best), targets)
    return Fitted(fitted.policy, (Promise("error", alpha, "pac"),))


_CUTS = np.arange(1, 20) / 20
_PAIRS = np.array([(low, high) for low in _CUTS for high in _CUTS if low < high])


def _abstaining(
    outputs: Outputs, labels: Labels, *, targets: Targets, delta: float
) -> Fitted | None:
    risks = import_module("mapie.risk_control")
    among = {"fnr": 1, "fpr": 0}
    asked = [
        risks.BinaryRisk(
            risk_occurrence=lambda y, said: said != y,
            risk_condition=partial(_decided, label=among[t.risk]),
            higher_is_better=False,
        )
        for t in targets
    ]
    controller = _controller(
        predict_function=_two_thresholds, risk=asked, target_level=[t.alpha for t in targets],
        confidence_level=1 - delta, best_predict_param_choice="abstention_rate",
        list_predict_params=_PAIRS,
    )  # fmt: skip
    best = _calibrated(controller, outputs.probabilities[:, 1:], labels)
    if best is None:
        return None
    policy = TwoSidedPolicy(float(best[0]), float(best[1]), 1, targets, delta, ())
    return Fitted(policy, tuple(Promise(t.risk, t.alpha, "pac") for t in targets))


def _two_thresholds(x: Floats, low: float, high: float) -> Floats:
    p = x[:, 0]
    return np.where(p >= high, 1.0, np.where(p < low, 0.0, np.nan))


def _decided(y: Labels, said: Floats, *, label: int) -> npt.NDArray[np.bool_]:
    return np.asarray((y == label) & ~np.isnan(said))


def _controller(**settings: Any) -> Any:
    return import_module("mapie.risk_control").BinaryClassificationController(**settings)


def _calibrated(controller: Any, x: Floats, y: Labels) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(x, y)
    return controller.best_predict_param


@dataclass(frozen=True)
class _Conformal:
    """Sets {k: 1 - p_k <= q}; decides everything, or what has a single class in its set."""

    predict: Callable[[Floats], npt.NDArray[np.bool_]]
    singletons: bool

    def decide(self, outputs: Outputs) -> Decision:
        sets = self.predict(outputs.logits)
        accepted = sets.sum(axis=1) == 1 if self.singletons else np.ones(len(sets), dtype=np.bool_)
        said = np.where(sets.any(axis=1), sets.argmax(axis=1), outputs.prediction)
        prediction = np.where(accepted & (sets.sum(axis=1) == 1), said, outputs.prediction)
        return Decision(accepted, prediction.astype(np.int64), sets, STORED(outputs))


def _torchcp(module: str) -> Any:
    """Import a part of TorchCP.

    The package imports torchsort, for a loss that nothing here trains with, and does not load
    without; where it is missing, an empty module stands in for it.
    """
    if "torchsort" not in sys.modules and not find_spec("torchsort"):
        stand_in = ModuleType("torchsort")
        stand_in.soft_rank = stand_in.soft_sort = None  # type: ignore[attr-defined]
        sys.modules["torchsort"] = stand_in
    return import_module(f"torchcp.{module}")


def _sets(outputs: Outputs, labels: Labels, *, targets: Targets, singletons: bool) -> Fitted:
    torch = import_module("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = _torchcp("classification.score").LAC()
        predictor = _torchcp("classification.predictor").SplitPredictor(score)
    logits = torch.from_numpy(outputs.logits).float()
    predictor.calculate_threshold(logits, torch.from_numpy(labels), targets[0].alpha)

    def predict(z: Floats) -> npt.NDArray[np.bool_]:
        sets = predictor.predict_with_logits(torch.from_numpy(z).float())
        return np.asarray(sets.numpy(), dtype=np.bool_)

    promised = Promise("error", targets[0].alpha, "none")
    if not singletons:
        promised = Promise("set_error", targets[0].alpha, "expectation")
    policy = cast(ExitPolicy, _Conformal(predict, singletons))
    return Fitted(policy, (promised,))
