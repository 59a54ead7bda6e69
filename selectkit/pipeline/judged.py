"""A split with what was said and decided about it: what is measured."""

from dataclasses import dataclass

import numpy as np

from selectkit.arrays import Bools, Floats, Ints
from selectkit.policies import Decision


@dataclass(frozen=True)
class Judged:
    """The test split, with what was said and decided about it. N rows, K classes.

    Attributes:
        labels: Shape (N,), codes.
        probabilities: Shape (N, K), calibrated.
        decision: Accepted rows, predictions; its score is what the rows are ranked by.
        groups: Shape (N,), resampled as wholes; None when every row is its own group.
        positive: Index of the positive class, None when there is none.
        classes: Names of the classes to be measured one by one, in the order of codes.
        outside: Shape (N,), for policies that answer with sets: the label is not in the set; None
            where the answer is the prediction.
    """

    labels: Ints
    probabilities: Floats
    decision: Decision
    groups: Ints | None
    positive: int | None
    classes: tuple[str, ...] = ()
    outside: Bools | None = None

    def rows(self, index: Ints) -> "Judged":
        """Return some of the rows, in the order asked for."""
        said = self.decision
        decision = Decision(
            said.accepted[index],
            said.prediction[index],
            said.prediction_set[index],
            said.score[index],
            None if said.stage is None else said.stage[index],
        )
        groups = None if self.groups is None else self.groups[index]
        return Judged(
            self.labels[index],
            self.probabilities[index],
            decision,
            groups,
            self.positive,
            self.classes,
            None if self.outside is None else self.outside[index],
        )

    @property
    def wrong(self) -> Bools:
        """Shape (N,): the prediction is not the label."""
        return np.asarray(self.decision.prediction != self.labels)

    @property
    def mistake(self) -> Bools:
        """Shape (N,): the answer is a mistake: a set without the label, or a wrong prediction."""
        return self.wrong if self.outside is None else self.outside
