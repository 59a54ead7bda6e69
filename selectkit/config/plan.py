"""Settings of `selectkit plan`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from selectkit.config.setting import Count, Help, Rate


@dataclass(frozen=True)
class PlanConfig:
    """Settings of `selectkit plan`."""

    target: Annotated[
        str | None, Help("What is to be promised: error, fnr, miss_rate, fpr or false_alarm =RATE.")
    ] = None
    delta: Annotated[Rate, Help("The promise may fail with at most this probability.")] = 0.1
    prevalence: Annotated[
        Rate | None,
        Help("Without a run: share of positives among the images that will be labelled."),
    ] = None
    coverage: Annotated[
        Annotated[float, Gt(0), Le(1)] | None,
        Help("Without a run: share of them that is expected to be decided; all by default."),
    ] = None
    fractions: Annotated[
        str | None,
        Help("Without a run: shares of train,val_select,val_calib,val_test; 0.6,0.1,0.2,0.1."),
    ] = None
    true_risk: Annotated[
        Rate | None,
        Help("Without a run: true rate to plan for; a quarter, half and 3/4 of the target."),
    ] = None
    labels: Annotated[
        str | None,
        Help("Numbers of labelled images in val_calib to try, for instance 500,1000,2000."),
    ] = None
    draws: Annotated[
        Annotated[int, Ge(20), Le(10_000)],
        Help("With a run: simulated certifications for each number of labels."),
    ] = 200
    seed: Annotated[Count, Help("With a run: seed of the simulation.")] = 0
