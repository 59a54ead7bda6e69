"""Off-diagonal and intercept regularisation (ODIR) of an affine map, and how much of it.

    mean_i -log softmax(W x_i + b)_{y_i} + off_diagonal sum_{i != j} W_ij^2 + intercept sum_j b_j^2

Source: Kull et al. (2019), "Beyond temperature scaling: Obtaining well-calibrated multiclass
probabilities with Dirichlet calibration", https://arxiv.org/abs/1910.12656, section 3.2. The
diagonal is free. Their code subtracts the last class before it penalises (`ref_row`), which
treats classes differently; here the penalty is symmetric.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.calibrate.door import Float64s, Ints64, require_every_class
from selectkit.calibrate.folds import checked_folds
from selectkit.calibrate.multinomial import SAMPLED_ROWS, Multinomial, minimum
from selectkit.calibrate.parameters import matrix, numbers
from selectkit.errors import CalibrationError, ConfigError

Rows: TypeAlias = tuple[tuple[float, ...], ...]
Penalties: TypeAlias = tuple[float, float]

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Off-diagonal penalties that are tried, strong to weak."""

INTERCEPTS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Intercept penalties that are tried."""

_JOINT_CLASSES = 36  # with more, both penalties are the same number
_FOLDS = 3


def fit_odir(
    x: Float64s, y: Ints64, penalties: Penalties | None, folds: ArrayLike | None
) -> tuple[Rows, tuple[float, ...], Penalties]:
    """Fit W and b.

    Args:
        x: Features, shape (N, K).
        y: Labels, shape (N,).
        penalties: Off-diagonal and intercept penalty; None chooses both by cross-validation.
        folds: Fold of each row for that; None deals them out.

    Returns:
        W (K, K), b (K,), and the penalties of the fit.

    Raises:
        ConfigError: If a penalty is negative or not finite.
        DataError: If the folds are no folds.
        CalibrationError: If a class is missing or the classes can be separated.
    """
    k = x.shape[1]
    require_every_class(y, k)
    if penalties is not None and not (min(penalties) >= 0 and max(penalties) < np.inf):
        raise ConfigError(f"penalties must be finite and at least 0, got {penalties}.")
    scale = float(x.std()) or 1.0
    columns = np.concatenate([x.T / scale, np.ones((1, len(x)))])
    problem = Multinomial(columns, y, np.ones((k, k + 1), dtype=np.bool_), np.zeros((k, k + 1)))
    start = np.concatenate([scale * np.eye(k), np.zeros((k, 1))], axis=1)
    if penalties is None:
        penalties = _chosen(problem, start, scale, folds)
    v = minimum(_penalised(problem, penalties, scale), start)
    weights = tuple(tuple(row) for row in (v[:, :k] / scale).tolist())
    return weights, tuple(v[:, k].tolist()), (float(penalties[0]), float(penalties[1]))


def affine_parameters(
    weights: Rows, bias: tuple[float, ...], penalties: Penalties
) -> dict[str, Any]:
    """Return W, b and the penalties as JSON values."""
    return {
        "weights": [list(row) for row in weights],
        "bias": list(bias),
        "off_diagonal": penalties[0],
        "intercept": penalties[1],
    }


def affine_from(parameters: Mapping[str, Any]) -> tuple[Rows, tuple[float, ...], Penalties]:
    """Read what `affine_parameters` wrote.

    Args:
        parameters: `weights`, `bias`, `off_diagonal` and `intercept`.

    Returns:
        W, b and the penalties.

    Raises:
        ValueError: If a shape or a number is wrong.
        KeyError: If one is missing.
    """
    bias = numbers(parameters["bias"], "bias")
    weights = matrix(parameters["weights"], "weights", len(bias), len(bias))
    return weights, bias, (float(parameters["off_diagonal"]), float(parameters["intercept"]))


def _penalised(problem: Multinomial, penalties: Penalties, scale: float) -> Multinomial:
    k = len(problem.free)
    off_diagonal, intercept = penalties
    square = np.full((k, k), off_diagonal / scale**2)
    np.fill_diagonal(square, 0)
    return replace(problem, penalty=np.concatenate([square, np.full((k, 1), intercept)], axis=1))


def _chosen(
    problem: Multinomial, start: Float64s, scale: float, given: ArrayLike | None
) -> Penalties:
    """Penalties with the smallest cross-validated likelihood.

    Of more than twice `SAMPLED_ROWS` rows an evenly spaced sample is searched. A penalty is worth
    the same number of samples there, so what is found is divided by how much larger all rows are.
    """
    n = len(problem.y)
    folds = checked_folds(given, problem.y, _FOLDS)
    if n > 2 * SAMPLED_ROWS:
        rows = np.arange(0, n, -(-n // SAMPLED_ROWS))
        problem, folds = problem.on(rows), folds[rows]
    best: tuple[float, Penalties] | None = None
    for path in _paths(len(problem.free)):
        found = _along(problem, start, scale, folds, path)
        best = found if best is None else min(best, found)
    if best is None or not np.isfinite(best[0]):
        raise CalibrationError(
            f"no penalty can be chosen by cross-validation on these {n} samples: in every fold "
            "the classes can be separated or one is missing. Add samples, or use 'temperature'."
        )
    share = len(problem.y) / n
    return best[1][0] * share, best[1][1] * share


def _paths(k: int) -> Iterator[list[Penalties]]:
    if k > _JOINT_CLASSES:
        yield [(strength, strength) for strength in STRENGTHS]
        return
    for intercept in INTERCEPTS:
        yield [(strength, intercept) for strength in STRENGTHS]


def _along(
    problem: Multinomial, start: Float64s, scale: float, folds: Ints64, path: list[Penalties]
) -> tuple[float, Penalties]:
    """Go from strong to weak penalties while the held-out likelihood improves."""
    held_out = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    pairs = [
        (problem.on(np.setdiff1d(np.arange(len(folds)), rows)), problem.on(rows))
        for rows in held_out
    ]
    starts = [start] * len(pairs)
    best = (np.inf, path[0])
    for penalties in path:
        try:
            starts = [
                minimum(_penalised(kept, penalties, scale), v)
                for (kept, _), v in zip(pairs, starts, strict=True)
            ]
        except CalibrationError:
            break
        value = sum(
            judged.value_and_gradient(v)[0] * len(judged.y)
            for (_, judged), v in zip(pairs, starts, strict=True)
        ) / len(folds)
        if value >= best[0]:
            break
        best = (value, penalties)
    return best
