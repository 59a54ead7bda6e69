"""What a policy looks at and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats, Ints, finite_matrix, finite_vector, regular_array
from selectkit.errors import DataError
from selectkit.risk import Certificate, Infeasible

if TYPE_CHECKING:  # scores look at Outputs
    from selectkit.policies.scores import OwnScore

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a head and a calibrator say about N rows with K classes; checked when it is made.

    Attributes:
        logits: Shape (N, K), finite, K >= 2; from the head, uncalibrated. Stored as float64.
        probabilities: Shape (N, K), in [0, 1]; calibrated. Stored as float64.
        features: Shape (N, D), or None when no score needs them.
        gate: Shape (N,), finite, logits of a trained gate, higher = accept first; or None.
        head: Maps features (M, D) to uncalibrated logits (M, K), for scores that ask the head about
            changed features; or None.
    """

    logits: Float64s
    probabilities: Float64s
    features: Floats | None = None
    gate: Float64s | None = None
    head: Callable[[Floats], Float64s] | None = None

    def __post_init__(self) -> None:
        z, p = (
            finite_matrix(self.logits, "logits"),
            finite_matrix(self.probabilities, "probabilities"),
        )
        if z.shape != p.shape or z.shape[1] < 2:
            raise DataError(
                "logits and probabilities must share one shape (N, K) with K >= 2, "
                f"got {z.shape} and {p.shape}."
            )
        wrong = np.flatnonzero((p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-3))
        if wrong.size:
            raise DataError(
                f"probabilities in row {wrong[0]} are not a distribution (sum "
                f"{p[wrong[0]].sum():.6g}). Pass a calibrator's output, not logits."
            )
        if self.features is not None:
            x = regular_array(self.features, "features")
            if x.ndim != 2:
                raise DataError(f"features must have shape (N, D), got {x.shape}.")
            if len(x) != len(z):
                raise DataError(f"features have {len(x)} rows but logits have {len(z)}.")
            object.__setattr__(self, "features", x)
        if self.gate is not None:
            u = finite_vector(self.gate, "gate logits")
            if len(u) != len(z):
                raise DataError(f"gate logits have {len(u)} rows but logits have {len(z)}.")
            object.__setattr__(self, "gate", u)
        object.__setattr__(self, "logits", z)
        object.__setattr__(self, "probabilities", p)

    def __len__(self) -> int:
        """N."""
        return len(self.logits)

    def take(self, rows: Ints) -> "Outputs":
        """Return the outputs of some rows, by number."""
        return Outputs(
            self.logits[rows],
            self.probabilities[rows],
            None if self.features is None else self.features[rows],
            None if self.gate is None else self.gate[rows],
            self.head,
        )

    @property
    def prediction(self) -> npt.NDArray[np.int64]:
        """The most probable class per row, shape (N,); of equal ones the first."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is done with N rows of K classes.

    Attributes:
        accepted: Shape (N,), bool: decided automatically; the others are deferred.
        prediction: Shape (N,), int64: what the policy says, of deferred rows too; the most probable
            class unless its rule says otherwise.
        prediction_set: Shape (N, K), bool, with the prediction in it: by most policies only the
            prediction where accepted, every class where deferred.
        score: Shape (N,), float64: accepted iff it reaches the policy's threshold. The confidence,
            or for a policy with several thresholds the distance from acceptance.
        stage: Shape (N,), int64: the stage of a cascade that decides, from 0; the number of stages
            where the row is deferred. None for a policy without stages.
    """

    accepted: npt.NDArray[np.bool_]
    prediction: npt.NDArray[np.int64]
    prediction_set: npt.NDArray[np.bool_]
    score: Float64s
    stage: npt.NDArray[np.int64] | None = None


class ExitPolicy(Protocol):
    """Accepts or defers rows, and says what that promises.

    Attributes:
        kind: "softmax", "gate", "scrc" or "cascade".
        artifact: Kind of its artifact; the file is named after it.
        infeasible: Why nothing can be promised; everything is deferred then.
    """

    kind: ClassVar[str]
    artifact: ClassVar[str]

    @property
    def infeasible(self) -> Infeasible | None:
        """Why nothing can be promised, or None."""
        ...

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Everything that is promised, together; empty when the target is infeasible."""
        ...

    @property
    def threshold(self) -> float:
        """A row is accepted iff `Decision.score` is at least this; inf accepts nothing."""
        ...

    @property
    def score_name(self) -> str:
        """What `Decision.score` is."""
        ...

    @property
    def scored_by(self) -> "str | OwnScore":
        """What other policies take as their score to rank rows as this one does."""
        ...

    @property
    def own(self) -> "OwnScore | None":
        """The score whose numbers must be stored beside the policy's file, or None."""
        ...

    def decide(self, outputs: Outputs, /) -> Decision:
        """Return the decision for each row."""
        ...

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        ...

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of its artifact, as JSON values."""
        ...
