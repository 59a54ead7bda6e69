"""Everything that is measured of a run on val_test, by what its policy has: sets, stages, costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from selectkit.metrics import Interval
from selectkit.pipeline.judging import Tested
from selectkit.pipeline.measure import Sections, measure
from selectkit.pipeline.measure_cascade import flow_of
from selectkit.pipeline.measure_promises import kept_promises
from selectkit.pipeline.measure_sets import measure_sets, sets_section
from selectkit.pipeline.naming import costs_of
from selectkit.pipeline.ratios import measure_ratios
from selectkit.policies import CascadePolicy, ScrcPolicy
from selectkit.report.parts import Flow, PromiseRow, Sets


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        sections: Intervals by section and name.
        curve: Selective risk by coverage.
        promises: What became of each promise.
        sets: Prediction sets, of a policy that has them.
        flow: What each stage did, of a cascade.
    """

    sections: Sections
    curve: Mapping[float, Interval]
    promises: tuple[PromiseRow, ...]
    sets: Sets | None
    flow: Flow | None


def figures_of(test: Tested, *, n_replicates: int, seed: int) -> Figures:
    """Measure what a policy does on val_test.

    Args:
        test: val_test, decided.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        The figures.
    """
    sections, curve = measure(test.judged, n_replicates=n_replicates, seed=seed)
    promises = kept_promises(test.policy, test.decided)
    sets, flow = None, None
    if test.sets is not None and isinstance(test.policy, ScrcPolicy):
        found = measure_sets(test.sets, test.judged, n_replicates=n_replicates, seed=seed)
        sections["sets"] = found
        sets = sets_section(test.policy, test.sets, found, test.run.head.classes)
    if isinstance(test.policy, CascadePolicy):
        flow = flow_of(
            test.policy, test.judged, promises, n_replicates=n_replicates, seed=seed
        )  # fmt: skip
        sections["operating"]["mean_cost"] = Interval(*flow.cost)
    elif (costs := costs_of(test.policy)) is not None:
        judged = test.judged
        spent = costs.of(judged.decision, judged.labels.astype(np.int64), judged.positive or 0)
        everyone = np.ones(len(spent), dtype=np.bool_)
        found = measure_ratios(
            judged, {"mean_cost": (everyone, spent)}, n_replicates=n_replicates, seed=seed
        )
        sections["operating"] |= found
    return Figures(sections, curve, promises, sets, flow)
