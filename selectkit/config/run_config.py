"""The configuration file: one table of settings per command.

Command-line flags (`--learning-rate`), TOML keys (`[fit] learning_rate`) and keyword arguments
(`selectkit.fit(..., learning_rate=...)`) are the fields of the tables' classes, in the file of
`selectkit.config` that is named after the command: name, type, range, default and meaning.
"""

from dataclasses import dataclass, field
from typing import Annotated

from selectkit.config.bench import BenchConfig
from selectkit.config.calibrate import CalibrateConfig
from selectkit.config.compare import CompareConfig
from selectkit.config.evaluate import EvaluateConfig
from selectkit.config.extract import ExtractConfig
from selectkit.config.fit import FitConfig
from selectkit.config.plan import PlanConfig
from selectkit.config.setting import Help
from selectkit.config.split import SplitConfig


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration file; `store` and one table per command."""

    store: Annotated[str | None, Help("Feature store of the run.")] = None
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
