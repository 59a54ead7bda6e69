"""The verbs: each reads what the one before it wrote, and only its own split."""

from selectkit.pipeline.bench import bench_policies
from selectkit.pipeline.bench_answer import PolicyBench
from selectkit.pipeline.calibrate import calibrate
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.compare import Comparison, compare
from selectkit.pipeline.evaluate import Evaluation, evaluate
from selectkit.pipeline.extract import ExtractSummary, extract
from selectkit.pipeline.fit import FitSummary, fit
from selectkit.pipeline.plan import plan
from selectkit.pipeline.plan_answer import Plan
from selectkit.pipeline.quickstart import Quickstart, quickstart
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.split import SplitSummary, split
from selectkit.pipeline.sweep import sweep
from selectkit.pipeline.trials import SweepSummary

__all__ = [
    "Calibration",
    "Comparison",
    "Evaluation",
    "ExtractSummary",
    "FitSummary",
    "Plan",
    "PolicyBench",
    "Quickstart",
    "RunDirectory",
    "SplitSummary",
    "SweepSummary",
    "bench_policies",
    "calibrate",
    "compare",
    "evaluate",
    "extract",
    "fit",
    "plan",
    "quickstart",
    "split",
    "sweep",
]
