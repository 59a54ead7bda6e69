"""The tables of docs/scaling.md, made from committed results."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks._scaling_check import CASES, TINY_CASE
from benchmarks._scaling_model import Costs, cores_per_device, interrupted
from benchmarks._scaling_plan import BACKBONES, Extraction, Machine, job, plan
from benchmarks._scaling_results import COSTS, SIZES, Results

DEVICES = {10**6: 1, 10**8: 16, 10**9: 64}
LATENCY = 0.03
TEN_SECONDS, EIGHT_GIGABYTES = 10.0, 8e9


def tables(results: Results) -> dict[str, str]:
    """Return all tables by name."""
    makers: dict[str, Callable[[Results], str]] = {
        "check": check_table,
        "costs": costs_table,
        "sizes": sizes_table,
        "device": device_table,
        "next": next_table,
        "totals": totals_table,
        "growth": growth_table,
        "shards": shards_table,
        "interruptions": interruptions_table,
    }
    return {name: make(results) for name, make in makers.items()}


def document(text: str, results: Results) -> str:
    """Return a document with every table in its place.

    Args:
        text: With lines `<!-- table: NAME -->` and `<!-- end -->`.
        results: What the tables are made from.

    Returns:
        The document, with the tables between these lines.
    """
    made = tables(results)

    def place(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{made[match[1]]}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", place, text, flags=re.DOTALL)


def check_table(results: Results) -> str:
    """Measured runs, and how far the predictions are off."""
    rows = []
    for case in (*CASES, TINY_CASE):
        question = f"small run, {case}"
        model, simulation, processor = (
            f"{100 * results.number(f'{question}: error of the {what}'):+.0f} %"
            for what in ("model", "simulation", "processor time")
        )
        cores = results.number(f"{question}: free cores")
        row = [_count(results.number(question)), f"{cores:.1f}", model, simulation, processor]
        rows.append([case, *row])
    header = ["run", "images/s", "free cores", "model", "simulation", "processor time"]
    return _table(header, rows)


def costs_table(results: Results) -> str:
    """What an image and a shard cost the host."""
    rows = [
        [question, f"{_two(results.number(question))} {unit}"]
        for question, unit, _ in COSTS.values()
    ]
    return _table(["cost on one core", ""], rows)


def sizes_table(results: Results) -> str:
    """Images/s of one core by size of the image."""
    costs, rows = results.costs(), []
    for (width, height), question in SIZES.items():
        load = results.load(width, height)
        size = results.number(f"{question}: size of the file")
        alone, crowded = 1 / (load + costs.feed), 1 / (costs.crowding * (load + costs.feed))
        rows.append([f"{width} x {height}", f"{size:.0f} kB", _count(alone), _count(crowded)])
    header = ["JPEG", "file", "images/s of a core", "when all cores work"]
    return _table(header, rows)


def device_table(results: Results) -> str:
    """One device: what it computes, and what it needs to be kept busy."""
    costs, machine, rows = results.costs(), Machine(), []
    small = _costs(results, 256, 256)
    size = results.number(f"{SIZES[500, 375]}: size of the file")
    for backbone in BACKBONES:
        part = job(Extraction(10**6), backbone, machine)
        rate = part.batch / part.forward
        cores = [cores_per_device(part, c) for c in (costs, small)]
        waiting = rate * (LATENCY + costs.crowding * costs.load)
        rows.append([
            backbone.name,
            f"{100 * backbone.share:.0f} %",
            _count(rate),
            *(_count(n) for n in cores),
            _count(waiting),
            f"{rate * size / 1e6:.2g} GB/s",
        ])
    header = ["", "share", "images/s", "cores, 500 x 375", "cores, 256 x 256"]
    return _table([*header, "decoders at 30 ms per read", "files 500 x 375"], rows)


def next_table(results: Results) -> str:
    """One device with 16 cores: what limits, how busy the device is, what comes next."""
    rows = []
    for backbone in BACKBONES:
        cells = [backbone.name]
        for costs, work in _kinds(results):
            p = plan(work, backbone, costs)
            busy = 100 * p.utilisation("forward")
            following = f"{p.following} at {_count(p.rates[p.following])}"
            cells += [_count(p.rates[p.limit]), p.limit, f"{busy:.0f} %", following]
        rows.append(cells)
    header = ["images/s", "limit", "device busy", "then"]
    return _table(["", *header, *(f"{h} (256)" for h in header)], rows)


def totals_table(results: Results) -> str:
    """Time, size and price of large extractions."""
    costs, small, rows = results.costs(), _costs(results, 256, 256), []
    for backbone in BACKBONES:
        cells = [backbone.name]
        for images, devices in DEVICES.items():
            p = plan(_work(results, images), backbone, costs, devices=devices)
            cells += [_duration(p.hours), _count(p.price)]
        s = plan(_small(results, images), backbone, small, devices=devices)
        cells += [_count(p.device_hours), _count(p.core_hours), _bytes(p.store_bytes)]
        rows.append([*cells, _duration(s.hours), _count(s.price)])
    spans = [c for n, d in DEVICES.items() for c in (f"{_power(n)} on {d}", "price")]
    last = ["device-hours", "core-hours", "store", "256 x 256", "price"]
    return _table(["", *spans, *last], rows)


def growth_table(results: Results) -> str:
    """What every process pays for the size of a store, and where it stops being comfortable."""
    rows = []
    for what, label in (
        ("seconds to list a row", "list a manifest"),
        ("bytes to list a row", "hold the listing, per process"),
        ("seconds to pass over a row", "start on a complete store, rows"),
        ("seconds to pass over a shard", "the same, shards of 4,096"),
        ("seconds to open a shard", "open a store, shards of 4,096"),
        ("seconds to open a row's index", "read the index"),
        ("bytes of a row's open index", "hold the index"),
    ):
        each = results.growth(what) / (4096 if what.endswith("shard") else 1)
        is_time = what.startswith("seconds")
        shown = _seconds if is_time else _bytes
        comfortable = (TEN_SECONDS if is_time else EIGHT_GIGABYTES) / each
        sizes = [shown(each * n) for n in DEVICES]
        rows.append([label, *sizes, _rough(comfortable)])
    return _table(["", *map(_power, DEVICES), "comfortable up to"], rows)


def shards_table(results: Results) -> str:
    """Shards and files of a billion rows by rows_per_shard."""
    rows, costs = [], results.costs()
    for rows_per_shard in (1024, 4096, 16384, 65536):
        work = replace(_work(results, 10**9), rows_per_shard=rows_per_shard)
        p = plan(work, BACKBONES[3], costs, devices=64)
        opening = results.growth("seconds to open a shard") * work.shards
        memory = 2 * work.features * rows_per_shard * BACKBONES[3].dim * 4
        rows.append([
            f"{rows_per_shard:,}",
            _count(work.shards),
            _count(work.files),
            _count(p.writes + p.reads - work.images),
            _seconds(opening),
            _bytes(memory),
            _seconds(rows_per_shard / p.rates[p.limit]),
            f"{work.rows_per_shard * BACKBONES[3].dim * 2 / 1e6:.0f} MB",
        ])
    header = [
        "rows per shard",
        "shards",
        "files",
        "requests",
        "open",
        "memory, H+",
        "lost by a kill, H+",
    ]
    return _table([*header, "chunk, H+"], rows)


def interruptions_table(results: Results) -> str:
    """How much longer a run takes that is interrupted again and again."""
    costs, work = results.costs(), _work(results, 10**8)
    restart = Machine().start + work.list_row * work.rows_per_store
    rows: dict[str, list[str]] = {"a shard takes": []}
    for backbone in BACKBONES:
        p = plan(work, backbone, costs)
        shard = work.rows_per_shard / p.rates[p.limit]
        rows["a shard takes"].append(_seconds(shard))
        for name, hours in (("once a day: longer by", 24), ("every hour: longer by", 1)):
            factor = interrupted(shard, restart, 3600 * hours)
            rows.setdefault(name, []).append(f"{100 * (factor - 1):.1f} %")
    lines = [[name, *cells] for name, cells in rows.items()]
    return _table(["interrupted", *(backbone.name for backbone in BACKBONES)], lines)


def _kinds(results: Results) -> list[tuple[Costs, Extraction]]:
    """Photographs as they come, and made smaller beforehand."""
    return [
        (results.costs(), _work(results, 10**8)),
        (_costs(results, 256, 256), _small(results, 10**8)),
    ]


def _work(results: Results, images: int, width: int = 500, height: int = 375) -> Extraction:
    size = results.number(f"{SIZES[width, height]}: size of the file")
    return Extraction(
        images,
        file_bytes=1e3 * size,
        row_bytes=results.growth("bytes of a row on disk"),
        list_row=results.growth("seconds to list a row"),
        shard_writes=results.growth("writing requests of a shard"),
        shard_reads=results.growth("reading requests of a shard"),
    )


def _small(results: Results, images: int) -> Extraction:
    return _work(results, images, 256, 256)


def _costs(results: Results, width: int, height: int) -> Costs:
    return replace(results.costs(), load=results.load(width, height))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, align, *rows))


def _count(value: float) -> str:
    """Three digits."""
    if value < 10:
        return f"{value:.2g}"
    return f"{float(f'{value:.3g}'):,.0f}"


def _two(value: float) -> str:
    """Two digits."""
    return f"{float(f'{value:.2g}'):g}"


def _power(value: int) -> str:
    return f"10^{len(str(value)) - 1}"


def _rough(value: float) -> str:
    """One digit and a power of ten."""
    digits, power = f"{value:.0e}".split("e")
    return f"{digits} x 10^{int(power)}"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{_count(value / size)} {unit}"
    return f"{_count(value / 1e6)} MB"


def _seconds(value: float) -> str:
    return _duration(value / 3600) if value >= 120 else f"{value:.2g} s"


def _duration(hours: float) -> str:
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.1f} d"
