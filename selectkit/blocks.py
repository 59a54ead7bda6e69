"""Row-wise functions over blocks of one fixed height: no answer depends on the other rows.

Matrix products round differently for different heights. What is answered for a row, alone or among
thousands, offline or by a server, must be the same number bit for bit.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats

_ROWS = 64


def by_blocks(
    features: Floats,
    rows: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    n_outputs: int,
) -> npt.NDArray[np.float64]:
    """Apply a row-wise function to blocks of one height, the last one padded with zeros.

    Args:
        features: Shape (N, D), any real dtype; one block at a time is held in float64.
        rows: Maps float64 (64, D) to (64, O), row by row.
        n_outputs: O.

    Returns:
        Shape (N, O), float64.
    """
    out = np.empty((len(features), n_outputs))
    block = np.zeros((_ROWS, features.shape[1]))
    for start in range(0, len(features), _ROWS):
        part = features[start : start + _ROWS]
        block[: len(part)] = part
        out[start : start + len(part)] = rows(block)[: len(part)]
    return out
