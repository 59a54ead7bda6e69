"""Rows whose best calibrator is known."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def affine_sample(
    n: int, k: int, seed: int = 0, scale: float = 2.0
) -> tuple[Floats, Labels, Floats, Floats]:
    """Logits z, labels drawn from softmax(W z + b), W and b."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * scale
    w = np.diag(rng.uniform(0.4, 0.9, k)) + 0.1 * rng.normal(size=(k, k))
    b = rng.normal(size=k) * 0.5
    y = (z @ w.T + b + rng.gumbel(size=z.shape)).argmax(axis=1)
    return z, y.astype(np.int64), w, b


def two(u: npt.ArrayLike) -> Floats:
    """Two columns of logits with difference u."""
    u = np.asarray(u, dtype=np.float64)
    return np.stack([-0.25 * u, 0.75 * u], axis=1)


def nll(p: Floats, y: Labels) -> float:
    """Mean negative log-likelihood, nats."""
    return float(-np.log(p[np.arange(len(y)), y]).mean())
