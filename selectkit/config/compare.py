"""Settings of `selectkit compare`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from selectkit.config.setting import Count, Help


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `selectkit compare`."""

    split: Annotated[
        Literal["val_select", "val_test"],
        Help("val_select to choose by, val_test to report a choice that is made."),
    ] = "val_select"
    replicates: Annotated[Annotated[int, Ge(100)], Help("Bootstrap replicates.")] = 2000
    seed: Annotated[Count, Help("Seed of the bootstrap.")] = 0
