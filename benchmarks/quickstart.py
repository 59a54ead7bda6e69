"""How long does a newcomer wait? Each step of `selectkit quickstart`, and the bare command.

Run `python -m benchmarks.quickstart > benchmarks/results/quickstart.jsonl`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks._figures import figure, middle

PACKAGES = ("numpy", "torch", "transformers", "scikit-learn", "typer")
REPETITIONS = 5


def cli(*arguments: object) -> None:
    """Run the command line as a shell would; exit code 1 is an answer, not a failure."""
    command = [sys.executable, "-m", "selectkit", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise RuntimeError(done.stderr)


def measure(question: str, action: Callable[[], None], repetitions: int = REPETITIONS) -> None:
    """Print the median wall time of an action."""
    times = []
    for _ in range(repetitions):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    number, spread = middle(times)
    figure(question, number, "s", spread=spread, packages=PACKAGES)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        store, run = Path(folder) / "digits.zarr", Path(folder) / "run"
        measure("selectkit --help", lambda: cli("--help"))
        extract = ("extract", "digits", "--backbone", "tiny", "--out", store)
        measure("extract 1,797 digit images with the tiny backbone", lambda: cli(*extract), 1)
        measure("extract again: nothing to do", lambda: cli(*extract))
        measure("fit a linear head", lambda: cli("fit", store, "--out", run))
        measure("calibrate and certify", lambda: cli("calibrate", run, "--target", "error=0.05"))
        measure("evaluate with 1,000 replicates and the report", lambda: cli("evaluate", run))
    with tempfile.TemporaryDirectory() as folder:
        measure("selectkit quickstart", lambda: cli("quickstart", "--out", Path(folder) / "d"), 1)


if __name__ == "__main__":
    main()
