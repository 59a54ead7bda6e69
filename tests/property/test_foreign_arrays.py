"""Tensors, data frames, masked arrays: the same answer as for the plain array, or a DataError."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from selectkit import metrics as m
from selectkit import risk, stats
from selectkit.calibrate import CALIBRATORS, choose
from selectkit.errors import DataError
from selectkit.policies import Outputs, SoftmaxPolicy, Target

N = 60
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(N, 3)) * 2
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = np.array([RNG.choice(3, p=p) for p in P])
CONFIDENCE = P.max(axis=1)
WRONG = P.argmax(axis=1) != LABELS
LOSS = WRONG.astype(np.float64)
SETS = np.stack([LOSS, LOSS / 2, 0 * LOSS], axis=1)
LAMBDAS = np.array([0.0, 0.5, 1.0])
GROUPS = np.arange(N) // 3


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


Call = tuple[Callable[..., Any], tuple[np.ndarray[Any, Any], ...]]
CALLS: dict[str, Call] = {
    "augrc": (m.augrc, (CONFIDENCE, LOSS)),
    "curve": (m.risk_coverage_curve, (CONFIDENCE, LOSS)),
    "optimal": (m.optimal_aurc, (LOSS,)),
    "balanced": (m.aurc_balanced, (CONFIDENCE, LOSS, LABELS)),
    "auroc": (m.auroc, (CONFIDENCE, WRONG)),
    "ece": (m.ece, (P, LABELS)),
    "brier parts": (m.brier_parts, (P, LABELS)),
    "nll of logits": (m.nll_of_logits, (LOGITS, LABELS)),
    "confidence": (m.confidence_ece, (CONFIDENCE, ~WRONG)),
    "smooth": (m.smooth_ece, (P, LABELS)),
    "fnr": (m.fnr, (LABELS, P.argmax(axis=1), CONFIDENCE > 0.5)),
    "holm": (m.holm, (np.array([0.01, 0.04]),)),
    "bootstrap": (
        lambda s, e, g: m.bootstrap(["augrc"], s, e, groups=g, n_replicates=9, rng=rng()),
        (CONFIDENCE, LOSS, GROUPS),
    ),
    "certify": (lambda s, e: risk.certify_threshold(s, e, alpha=0.5), (CONFIDENCE, LOSS)),
    "candidates": (
        lambda c: risk.certify_threshold(CONFIDENCE, LOSS, alpha=0.5, candidates=c),
        (LAMBDAS,),
    ),
    "groups": (
        lambda s, e, g: risk.certify_by_group(s, e, g, alpha=0.5),
        (CONFIDENCE, LOSS, 0 * GROUPS),
    ),
    "sgr": (lambda s, e: risk.sgr(s, e, alpha=0.5), (CONFIDENCE, LOSS)),
    "crc": (lambda s, e: risk.crc_threshold(s, e, alpha=0.5), (CONFIDENCE, LOSS)),
    "crc of a grid": (lambda e, g: risk.crc_lambda(e, g, alpha=0.5), (SETS, LAMBDAS)),
    "scrc": (lambda s, e, g: risk.scrc_t(s, e, g, alpha=0.5), (CONFIDENCE, SETS, LAMBDAS)),
    "joint": (
        lambda s, e, g: risk.joint_certificate(s, e, g, alpha=0.5),
        (CONFIDENCE, SETS, LAMBDAS),
    ),
    "pvalues": (risk.union_pvalues, (np.array([0, 1]), np.array([50, 50]), np.array([0.2]))),
    "order": (risk.pareto_order, (np.array([0.1, 0.2]), np.array([0.1, 0.2]))),
    "monitor": (
        lambda e, q: risk.RiskMonitor.start(0.1, least_probability=0.1).update(e, q),
        (LOSS, np.full(N, 0.5)),
    ),
    "drift": (risk.PsiReference.fit, (CONFIDENCE,)),
    "counts": (
        lambda k, n: stats.clopper_pearson_upper(k, n, 0.1),
        (np.array([0, 1]), np.array([5, 5])),
    ),
    "betting": (lambda x: stats.wsr_upper(x, 0.1, rng()), (LOSS,)),
    "bernstein": (lambda x: stats.bernstein_upper(x, 0.1), (LOSS,)),
    "temperature": (CALIBRATORS["temperature"].fit, (LOGITS, LABELS)),
    "vector": (CALIBRATORS["vector"].fit, (LOGITS, LABELS)),
    "choice": (lambda z, y, f: choose(z, y, folds=f), (LOGITS, LABELS, np.arange(N) % 5)),
    "outputs": (
        lambda z, p, x: SoftmaxPolicy.fit(Outputs(z, p, x), LABELS, target=Target("error", 0.5)),
        (LOGITS, P, LOGITS),
    ),
}
CASES = [pytest.param(f, a, i, id=f"{k}-{i}") for k, (f, a) in CALLS.items() for i in range(len(a))]


def same(values: np.ndarray[Any, Any]) -> Iterator[Any]:
    """The same numbers in other forms."""
    yield torch.tensor(values)
    yield values.tolist()
    yield np.ma.array(values)
    yield np.asfortranarray(values)
    if values.ndim == 1:
        yield pd.Series(values, index=np.arange(len(values))[::-1])
        yield np.repeat(values, 2)[::2]
    else:
        yield pd.DataFrame(values)


def foreign(values: np.ndarray[Any, Any]) -> Iterator[Any]:
    """What must not be read as if nothing were amiss."""
    first = np.zeros(values.shape, dtype=np.bool_)
    first.flat[0] = True
    yield np.ma.array(values, mask=first)
    yield torch.empty(values.shape, device="meta")
    yield set(values.ravel().tolist())
    yield (value for value in values)
    if values.dtype.kind == "f":
        yield torch.tensor(values, requires_grad=True)
        yield torch.tensor(values).to(torch.bfloat16)


@pytest.mark.parametrize(("call", "arguments", "place"), CASES)
def test_the_form_of_an_array_changes_nothing(
    call: Callable[..., Any], arguments: tuple[Any, ...], place: int
) -> None:
    expected = repr(call(*arguments))
    for other in same(arguments[place]):
        changed = (*arguments[:place], other, *arguments[place + 1 :])
        assert repr(call(*changed)) == expected, type(other)


@pytest.mark.parametrize(("call", "arguments", "place"), CASES)
def test_what_cannot_be_read_is_refused(
    call: Callable[..., Any], arguments: tuple[Any, ...], place: int
) -> None:
    for other in foreign(arguments[place]):
        with pytest.raises(DataError):
            call(*arguments[:place], other, *arguments[place + 1 :])
