"""Settings of a cascade, which several commands have: its runs, and what an image costs in each."""

from typing import Annotated, TypeAlias

from selectkit.config.setting import Help

_PANEL = "Cascades"

Stages: TypeAlias = Annotated[
    str | None, Help("Runs that see what the first one leaves, in order: RUN,RUN.", _PANEL)
]
StageCosts: TypeAlias = Annotated[
    str | None, Help("Cost of an image in each stage, the first run's first: 0.002,0.03.", _PANEL)
]
ViewSeconds: TypeAlias = Annotated[
    str | None,
    Help(
        "Instead: seconds to extract an image, VIEW=SECONDS,VIEW=SECONDS; heads are measured.",
        _PANEL,
    ),
]
CostUnit: TypeAlias = Annotated[str, Help("Unit of these costs.", _PANEL)]
HumanCost: TypeAlias = Annotated[
    float | None, Help("Cost of an image that no stage decides.", _PANEL)
]
LastDecides: TypeAlias = Annotated[
    bool, Help("The last stage decides every image that reaches it.", _PANEL)
]
