"""Typed configuration: a frozen dataclass per command, from TOML, flags or keyword arguments."""

from selectkit.config.run_config import (
    BenchConfig,
    CalibrateConfig,
    CompareConfig,
    EvaluateConfig,
    ExtractConfig,
    FitConfig,
    Help,
    PlanConfig,
    RunConfig,
    SplitConfig,
)
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
