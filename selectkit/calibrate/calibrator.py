"""What every calibrator offers, the list of them, and how a stored one is read back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.calibrate.beta import Beta
from selectkit.calibrate.dirichlet import Dirichlet
from selectkit.calibrate.histogram import Histogram
from selectkit.calibrate.identity import Identity
from selectkit.calibrate.isotonic import Isotonic
from selectkit.calibrate.matrix import MatrixScaling
from selectkit.calibrate.platt import Platt
from selectkit.calibrate.temperature import Temperature
from selectkit.calibrate.vector import VectorScaling
from selectkit.errors import ArtifactError

AnyCalibrator: TypeAlias = (
    Temperature
    | VectorScaling
    | MatrixScaling
    | Dirichlet
    | Platt
    | Beta
    | Isotonic
    | Histogram
    | Identity
)


class Calibrator(Protocol):
    """Maps logits (N, K) to probabilities (N, K)."""

    method: ClassVar[str]

    def probabilities(self, logits: ArrayLike) -> npt.NDArray[np.float64]:
        """Return probabilities, float64, rows sum to one."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return method and parameters as JSON values."""
        ...


CALIBRATORS: Mapping[str, type[AnyCalibrator]] = MappingProxyType({
    "temperature": Temperature,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "dirichlet": Dirichlet,
    "platt": Platt,
    "beta": Beta,
    "isotonic": Isotonic,
    "histogram": Histogram,
    "none": Identity,
})
"""Every calibrator by the name used in settings and artifacts."""


def from_dict(document: Mapping[str, Any]) -> AnyCalibrator:
    """Rebuild a calibrator from what `to_dict` returned.

    Args:
        document: `method` and `parameters`; other fields are ignored.

    Returns:
        The calibrator.

    Raises:
        ArtifactError: If the method is unknown, or a parameter is missing or no number.
    """
    method = document.get("method")
    if not isinstance(method, str) or method not in CALIBRATORS:
        raise ArtifactError(
            f"calibrator method {method!r} is unknown to this release; "
            f"known: {', '.join(CALIBRATORS)}."
        )
    try:
        return CALIBRATORS[method].from_parameters(document["parameters"])
    except KeyError as error:
        raise ArtifactError(f"the {method} calibrator lacks {error.args[0]!r}.") from None
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the {method} calibrator is malformed: {error}.") from None
