"""What does an extraction of a million, a hundred million, a billion images take?

Run `python -m benchmarks.scaling > benchmarks/results/scaling.jsonl` to measure what images and
shards cost, how stores grow, and how far model and simulation are from small runs; then
`python -m benchmarks.scaling --write-docs` to compute the tables of docs/scaling.md from it.
`--tables` prints them. `--plan 1e8` prints a plan, one JSON line per figure; there `--set` changes
any number of the machine, the extraction or the prices: `--set cores=32 --set device_hour=2.5`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from benchmarks._figures import figure, middle
from benchmarks._photographs import write_photographs
from benchmarks._scaling_check import IMAGES, Comparison, compare, tasks
from benchmarks._scaling_costs import Files, Loads, costs
from benchmarks._scaling_growth import measure as measure_growth
from benchmarks._scaling_plan import BACKBONES, Extraction, Machine, Prices, plan
from benchmarks._scaling_results import COSTS, SIZES, Results
from benchmarks._scaling_runs import collect, load_seconds, sized_files, tiny_files, wait_for_quiet
from benchmarks._scaling_tables import document, tables

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/scaling.md"
RESULTS = ROOT / "benchmarks/results/scaling.jsonl"
PACKAGES = ("numpy", "pillow", "simplejpeg", "pyarrow")

Parameters = TypeVar("Parameters", Machine, Extraction, Prices)


def measure(only: str | None, repetitions: int, patience: float) -> None:
    """Measure and print it.

    Args:
        only: "runs" or "growth"; None = both.
        repetitions: Of the runs.
        patience: Seconds to wait for a quiet machine, in all.
    """
    with tempfile.TemporaryDirectory() as name:
        if only != "growth":
            _runs(Path(name), repetitions, patience)
    with tempfile.TemporaryDirectory() as name:
        for question, growth in measure_growth(Path(name)).items() if only != "runs" else ():
            unit = _unit(question)
            figure(f"growth: {question}", growth.each, unit, packages=PACKAGES)
            order = f"order of growth up to {growth.size:,}: {question}"
            figure(order, growth.order, "exponent", packages=PACKAGES)


def _runs(folder: Path, repetitions: int, patience: float) -> None:
    files = Files(
        photographs=write_photographs(folder / "photographs/images", 64, IMAGES // 64)[0].parent,
        tiny=tiny_files(folder / "tiny/images", IMAGES),
        padded=tiny_files(folder / "padded/images", IMAGES, 100_000),
    )
    wanted = {**files.tasks(), **tasks(files)}
    runs, loads = collect(wanted, repetitions, patience), []
    for _ in range(repetitions):
        wait_for_quiet(patience / 10)
        loads.append(Loads.measure(files))
    _sizes(folder)
    found = costs(runs, loads)
    for field, (question, unit, factor) in COSTS.items():
        figure(question, factor * getattr(found, field), unit, packages=PACKAGES)
    tiny = statistics.median([load.tiny for load in loads])
    for case, comparisons in compare(runs, tasks(files), found, tiny).items():
        _report_case(case, comparisons)


def _sizes(folder: Path) -> None:
    for (width, height), question in SIZES.items():
        place = sized_files(folder / f"{width}", 16, width, height)
        seconds = [load_seconds(place, 224) for _ in range(3)]
        _report(question, [1000 * s for s in seconds], "ms")
        mean = sum(file.stat().st_size for file in place.iterdir()) / 16
        figure(f"{question}: size of the file", mean / 1e3, "kB", packages=PACKAGES)


def _unit(question: str) -> str:
    units = {"seconds": "s", "bytes": "bytes"}
    return units.get(question.split(" ", 1)[0], "requests")


def _report_case(case: str, found: Sequence[Comparison]) -> None:
    _report(f"small run, {case}", [c.rate for c in found], "images/s")
    _report(f"small run, {case}: error of the model", [c.model for c in found], "fraction")
    _report(
        f"small run, {case}: error of the simulation", [c.simulation for c in found], "fraction"
    )
    _report(
        f"small run, {case}: error of the processor time", [c.processor for c in found], "fraction"
    )
    _report(f"small run, {case}: free cores", [c.cores for c in found], "cores")


def _report(question: str, values: Sequence[float], unit: str) -> None:
    number, spread = middle(values)
    figure(question, number, unit, spread=spread, packages=PACKAGES)


def print_plan(images: int, devices: int, settings: Sequence[str]) -> None:
    """Print what an extraction takes, by backbone.

    Args:
        images: N.
        devices: How many share the work.
        settings: "name=value" for any field of `Machine`, `Extraction` or `Prices`.

    Raises:
        SystemExit: If there is no such field or the value is no number.
    """
    changed = dict(_setting(text) for text in settings)
    measured = Results.read(RESULTS).costs()
    work, machine = _changed(Extraction(images), changed), _changed(Machine(), changed)
    prices = _changed(Prices(), changed)
    if changed:
        raise SystemExit(f"there is no parameter {next(iter(changed))!r}.")
    for backbone in BACKBONES:
        p = plan(work, backbone, measured, machine=machine, devices=devices, prices=prices)
        what = f"plan, {images:,} images, {devices} devices, {backbone.name}"
        figure(f"{what}: rate per device, limited by {p.limit}", p.images_per_second, "images/s")
        for stage in p.rates:
            figure(f"{what}: {stage} busy", p.utilisation(stage), "fraction")
        figure(f"{what}: wall time", p.hours, "h")
        figure(f"{what}: device-hours", p.device_hours, "h")
        figure(f"{what}: core-hours", p.core_hours, "h")
        figure(f"{what}: store", p.store_bytes / 1e9, "GB")
        figure(f"{what}: writing requests", p.writes, "requests")
        figure(f"{what}: reading requests", p.reads, "requests")
        figure(f"{what}: price at the prices set", p.price, "units of money")


def _setting(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise SystemExit(f"--set takes name=number, got {text!r}.") from None


def _changed(parameters: Parameters, changed: dict[str, float]) -> Parameters:
    """The parameters with those changes that are theirs, which are then taken from `changed`."""
    kinds = {field.name: type(getattr(parameters, field.name)) for field in fields(parameters)}
    mine = {name: kinds[name](changed.pop(name)) for name in list(changed) if name in kinds}
    return replace(parameters, **mine)


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["runs", "growth"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--plan", type=float, metavar="IMAGES")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args()
    if asked.plan:
        print_plan(int(asked.plan), asked.devices, asked.set)
    elif asked.tables:
        sys.stdout.write("\n\n".join(tables(Results.read(RESULTS)).values()) + "\n")
    elif asked.write_docs:
        text = document(DOCUMENT.read_text(encoding="utf-8"), Results.read(RESULTS))
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        measure(asked.only, asked.repetitions, asked.patience)


if __name__ == "__main__":
    main()
