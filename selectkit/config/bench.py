"""Settings of `selectkit bench policies`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from selectkit.config.cascade import (
    CostUnit,
    HumanCost,
    LastDecides,
    StageCosts,
    Stages,
    ViewSeconds,
)
from selectkit.config.setting import Count, Help, Positive, Rate, Score


@dataclass(frozen=True)
class BenchConfig:
    """Settings of `selectkit bench policies`."""

    target: Annotated[
        tuple[str, ...],
        Help(
            "What to promise, such as error=0.05 or together fnr=0.02,fpr=0.05,deferral=0.3; "
            "repeat it for several questions."
        ),
    ] = ()
    cost: Annotated[
        str | None,
        Help("Choose by cost: miss=50,false_alarm=3,defer=1 or error=20,defer=1."),
    ] = None
    delta: Annotated[Rate, Help("A promise may fail with at most this probability.")] = 0.1
    score: Annotated[Score, Help("Confidence that rows are accepted by, as of calibrate.")] = "msp"
    positive: Annotated[
        Count | None,
        Help("For a file or store: code of the positive class; of two classes 1 by default."),
    ] = None
    head: Annotated[str | None, Help("For a store with logits of several heads: which.")] = None
    view: Annotated[str | None, Help("For a store with logits in several views: which.")] = None
    share: Annotated[Rate, Help("Share of the rows that a re-split calibrates on.")] = 0.5
    splits: Annotated[Annotated[int, Ge(20)], Help("Random re-splits.")] = 200
    seed: Annotated[Count, Help("Seed of the re-splits.")] = 0
    workers: Annotated[
        Positive | None, Help("Threads at work; by default one per core this process may use.")
    ] = None
    xi: Annotated[
        Rate, Help("Share of images that the score is to let pass to the sets.", "Prediction sets")
    ] = 0.8
    stages: Stages = None
    stage_costs: StageCosts = None
    view_seconds: ViewSeconds = None
    cost_unit: CostUnit = "s"
    human_cost: HumanCost = None
    last_decides: LastDecides = False
