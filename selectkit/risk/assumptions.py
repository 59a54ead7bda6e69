"""What must hold for a promise to hold, and what to say where its proof ends.

Walks over thresholds that are taken from the calibration scores themselves are proven for scores
without ties (`selectkit.risk.threshold`), and for one target and for gates with ties, too: where a
walk starts between equal scores, chance says which of them are above. Elsewhere (betting, exits of
selective sets) the true risk jumps with ties from one threshold to the next, and where a walk
starts depends on how many samples share a score, which may hang together with how many of them are
errors: what holds then is known from simulations (tests/statistical/test_tied_scores.py), not from
a proof. The certificate says so. Thresholds that other rows fixed, as those of
`selectkit.policies.joint` with a guide and of cascades, need no such remark.
"""

import numpy as np
import numpy.typing as npt

ASSUMPTIONS = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except this threshold",
)
DRAWN = (
    "which samples of one score come before the tests start was drawn at random, and the "
    "probability is over this draw, too"
)
GRID = (
    "where testing starts on the given thresholds depends on how many samples they accept: the "
    "promise rests on simulations instead of a proof"
)


def about_ties(scores: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """Return the assumption that scores are distinct, where it does not hold; else nothing.

    Args:
        scores: Shape (N,), rising: those that may be accepted.

    Returns:
        One sentence, or none.
    """
    same = scores[1:] == scores[:-1]
    again = int(np.count_nonzero(same))
    if not again:
        return ()
    runs = int(np.count_nonzero(same[1:] & ~same[:-1])) + int(same[0])
    return (
        f"no two samples have the same score; here {again + runs:,} of {len(scores):,} share "
        "theirs, so that the promise rests on simulations instead of a proof",
    )
