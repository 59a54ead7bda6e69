"""What a user says about the stages of a cascade: which runs, and what an image costs in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from selectkit.config import BenchConfig, CalibrateConfig
from selectkit.errors import ConfigError
from selectkit.location import local_path
from selectkit.pipeline.stages import StageRun, head_seconds, stage_costs, stage_runs
from selectkit.policies import Outputs, StageCosts

_IDLE = ("stage_costs", "view_seconds", "cost_unit", "human_cost", "last_decides")


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What is said about the stages.

    Attributes:
        runs: The runs that see what the first one leaves.
        costs: Cost of each stage for every image that reaches it, in `unit`; None: seconds.
        view_seconds: Seconds to extract one image, by view. A view that an earlier stage has
            computed costs nothing more; what a head costs is measured and added.
        unit: Of `costs` and `human`.
        human: Cost of an image that no stage decides.
        last_decides: Whether the last stage decides every image that reaches it.
    """

    runs: tuple[str | Path, ...]
    costs: tuple[float, ...] | None = None
    view_seconds: Mapping[str, float] | None = None
    unit: str = "s"
    human: float | None = None
    last_decides: bool = False

    def __post_init__(self) -> None:
        """Refuse two prices for the same thing.

        Raises:
            ConfigError: If both costs and seconds are given.
        """
        if self.costs is not None and self.view_seconds:
            raise ConfigError("give the cost of stages or the seconds of views, not both.")

    @classmethod
    def of(cls, config: CalibrateConfig | BenchConfig) -> Self | None:
        """Read the settings of a command.

        Args:
            config: Its settings.

        Returns:
            What they say, or None where no run is named.

        Raises:
            ConfigError: If a number cannot be read, or is given without a run.
        """
        if config.stages is None:
            fresh = type(config)()
            for name in _IDLE:
                if getattr(config, name) != getattr(fresh, name):
                    raise ConfigError(
                        f"--{name.replace('_', '-')} is about the stages of a cascade: name the "
                        "runs that see what the first one leaves, --stages RUN,RUN."
                    )
            return None
        runs = tuple(part.strip() for part in config.stages.split(","))
        if not all(runs):
            raise ConfigError(f"--stages {config.stages}: give one run or more, RUN,RUN.")
        return cls(
            runs=runs,
            costs=_numbers(config.stage_costs),
            view_seconds=_named_numbers(config.view_seconds),
            unit=config.cost_unit,
            human=config.human_cost,
            last_decides=config.last_decides,
        )

    @property
    def priced(self) -> bool:
        """Whether anything but what a head costs is known."""
        return self.extraction_counts or self.human is not None

    @property
    def extraction_counts(self) -> bool:
        """Whether what extraction costs is known."""
        return self.costs is not None or bool(self.view_seconds)

    def opened(self, first: Path, store: str | Path | None) -> tuple[StageRun, ...]:
        """Open the runs.

        Args:
            first: The first run.
            store: Where the store of all runs is now, if it was moved.

        Returns:
            All stages.

        Raises:
            ConfigError: As `stage_runs`.
            ArtifactError: As `stage_runs`.
            LeakageError: As `stage_runs`.
        """
        later = [local_path(run, "a run directory") for run in self.runs]
        return stage_runs([first, *later], store)

    def prices(
        self, stages: Sequence[StageRun], outputs: Sequence[Outputs]
    ) -> tuple[StageCosts, tuple[float, ...]]:
        """Return what the stages cost.

        Args:
            stages: The stages.
            outputs: What each says about some rows, with the features that it reads.

        Returns:
            Their costs, and the measured seconds of each head for one row.

        Raises:
            ConfigError: If numbers and stages do not fit.
        """
        heads = [head_seconds(s, said.features) for s, said in zip(stages, outputs, strict=True)]
        paid = self.costs
        if paid is None:
            paid = stage_costs(stages, self.view_seconds or {}, heads)
        if len(paid) != len(stages):
            raise ConfigError(
                f"{len(stages)} stages need as many costs, got {len(paid)}: the first run is a "
                "stage too."
            )
        return StageCosts(tuple(paid), self.human, self.unit), tuple(heads)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--stage-costs {text}: give one number for each stage, for instance 0.002,0.03."
        ) from None


def _named_numbers(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        pairs = [part.partition("=") for part in text.split(",")]
        return {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        raise ConfigError(
            f"--view-seconds {text}: give VIEW=SECONDS,VIEW=SECONDS, for instance "
            "small=0.002,large=0.03."
        ) from None
