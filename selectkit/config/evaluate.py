"""Settings of `selectkit evaluate`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from selectkit.config.setting import AboveZero, Count, Help


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `selectkit evaluate`."""

    replicates: Annotated[Annotated[int, Ge(100)], Help("Bootstrap replicates.")] = 1000
    seed: Annotated[Count, Help("Seed of the bootstrap.")] = 0
    thumbnails: Annotated[
        Count,
        Help("Images shown in the report: hardest accepted errors, and deferred, each at most."),
    ] = 24
    volume: Annotated[
        Annotated[int, Ge(1)], Help("Images per day that the threshold explorer starts with.")
    ] = 1000
    error_cost: Annotated[
        AboveZero,
        Help("What a wrong decision costs there, in deferrals; unless calibrated with --cost."),
    ] = 10.0
