"""Settings of `selectkit split`."""

from dataclasses import dataclass
from typing import Annotated

from selectkit.config.setting import Help


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `selectkit split`; None keeps what the store has."""

    salt: Annotated[str | None, Help("Another salt gives another random split.")] = None
    fractions: Annotated[
        str | None,
        Help("Shares of train,val_select,val_calib,val_test, for instance 0.6,0.1,0.2,0.1."),
    ] = None
