"""Two classes with honest probabilities and a rare positive one, for tests of policies."""

import numpy as np
import numpy.typing as npt

from selectkit.policies import Guide, Outputs

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def outputs_of(p: Floats) -> Outputs:
    """Outputs whose second class has probability p."""
    both = np.stack([1 - p, p], axis=1)
    return Outputs(np.log(np.clip(both, 1e-12, 1)), both)


def draw(n: int, seed: int, share: float = 0.1, apart: float = 3.0) -> tuple[Outputs, Labels]:
    """Two normal classes, `apart` standard deviations from each other."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(np.int64)
    x = rng.normal(size=n) + apart * y
    odds = np.log(share / (1 - share)) + apart * x - apart**2 / 2
    return outputs_of(1 / (1 + np.exp(-odds))), y


def guide(n: int = 1000, seed: int = 100, **settings: float) -> Guide:
    """Rows to search on."""
    return Guide(*draw(n, seed, **settings))
