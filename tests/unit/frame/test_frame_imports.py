import subprocess
import sys

HEAVY = ("numpy", "scipy", "torch", "zarr", "transformers", "pandas", "sklearn", "matplotlib")


def _loaded_after(code: str) -> list[str]:
    script = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_probe_sees_a_heavy_import() -> None:
    assert _loaded_after("import numpy") == ["numpy"]


def test_the_command_line_starts_without_heavy_imports() -> None:
    assert _loaded_after("import selectkit.cli.main") == []


def test_metrics_risk_and_calibration_need_numpy_only() -> None:
    code = (
        "import selectkit.metrics, selectkit.risk, selectkit.calibrate, selectkit.policies\n"
        "import selectkit.heads, selectkit.stats, selectkit.cache"
    )
    assert set(_loaded_after(code)) <= {"numpy", "scipy"}
