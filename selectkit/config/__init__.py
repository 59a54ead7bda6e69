"""Typed configuration: a frozen dataclass per command, from TOML, flags or keyword arguments."""

from selectkit.config.bench import BenchConfig
from selectkit.config.calibrate import CalibrateConfig
from selectkit.config.compare import CompareConfig
from selectkit.config.evaluate import EvaluateConfig
from selectkit.config.extract import ExtractConfig
from selectkit.config.fit import FitConfig
from selectkit.config.plan import PlanConfig
from selectkit.config.run_config import RunConfig
from selectkit.config.setting import Help
from selectkit.config.split import SplitConfig
from selectkit.config.toml import build, json_schema, read_toml, to_toml

__all__ = [
    "BenchConfig",
    "CalibrateConfig",
    "CompareConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "FitConfig",
    "Help",
    "PlanConfig",
    "RunConfig",
    "SplitConfig",
    "build",
    "json_schema",
    "read_toml",
    "to_toml",
]
