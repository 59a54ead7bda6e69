"""The whole idea on real images, with what the package itself holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selectkit.errors import CacheError
from selectkit.pipeline.calibrate import calibrate
from selectkit.pipeline.evaluate import Evaluation, evaluate
from selectkit.pipeline.extract import ExtractSummary, Ticker, extract
from selectkit.pipeline.fit import FitSummary, fit

TARGET = "error=0.05"
ALSO = ("coverage=0.8", "error=0.02", "error=0.01")
OWN_IMAGES = (
    "selectkit extract PHOTOS --out road.zarr     # folder per class, or a CSV manifest",
    "selectkit split road.zarr                    # what can be certified with these labels",
    "selectkit fit road.zarr --out run",
    "selectkit calibrate run --target fnr=0.02 --delta 0.1",
    "selectkit evaluate run                       # metrics.json, report.html",
)


@dataclass(frozen=True)
class Quickstart:
    """What the tour did.

    Attributes:
        extraction: Images to cache.
        fitted: Cache to head.
        evaluation: Measured on val_test.
    """

    extraction: ExtractSummary
    fitted: FitSummary
    evaluation: Evaluation

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        return self.evaluation.warnings

    def policy_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of policies."""
        return self.evaluation.policy_table()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "extract": self.extraction.to_dict(),
            "fit": self.fitted.to_dict(),
            "evaluate": self.evaluation.to_dict(),
        }

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        extracted, fitted = self.extraction.work, self.fitted
        return [
            f"cached {extracted.rows:,} images ({extracted.done_now:,} now, {extracted.seconds:.1f}"
            f" s), fitted the head in {fitted.seconds:.2f} s",
            *self.evaluation.certificate,
            f"report: {self.evaluation.run / 'report.html'}",
            "",
            "the same on your own images:",
            *(f"  {command}" for command in OWN_IMAGES),
        ]


def quickstart(out: Path, *, progress: Ticker | None = None) -> Quickstart:
    """Extract, fit, calibrate and evaluate scikit-learn's 1,797 digit images.

    Args:
        out: Folder for the store and the run.
        progress: Called with (rows done, rows in all, images per second).

    Returns:
        What was done.

    Raises:
        CacheError: If the folder holds a store of another release's making.
    """
    out.mkdir(parents=True, exist_ok=True)
    store, run = out / "digits.zarr", out / "run"
    try:
        extraction = extract(
            "digits", out=store, backbone="tiny", compute="float32", progress=progress
        )
    except CacheError as error:
        raise CacheError(f"{error} Or remove {out}, or choose another --out.") from None
    fitted = fit(store, out=run)
    calibrate(run, target=TARGET)
    return Quickstart(extraction, fitted, evaluate(run, also=ALSO))
