"""Write the table of measured figures into README.md: `python -m benchmarks._readme`."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- measured: python -m benchmarks._readme -->", "<!-- end -->"
ROWS = (
    ("Images to report, 1,797 digits, everything included", "selectkit quickstart"),
    ("`selectkit --help`", "selectkit --help"),
    ("Fit a head on cached features, as a command", "fit a linear head"),
    (
        "JPEG to features, ViT-S/16 at 224: bfloat16 (`--compute auto`) against Hugging Face's "
        "pipeline in float32",
        "ViT-S/16 at 224, shared CPU, JPEG files to features, bfloat16: selectkit over Hugging "
        "Face pipeline in float32",
    ),
    (
        "Full warm read of 200,000 x 384 float16, against np.memmap",
        "full read of 200,000 x 384 float16: speed of the store over np.memmap",
    ),
    (
        "4,096 random rows of it, against zarr-python on the same store",
        "4,096 random rows of 200,000 x 384 float16: speed of the store over zarr-python",
    ),
    (
        "Promise broken, 5 % error at 90 % confidence: empirical threshold",
        "promise broken, alpha 0.05, delta 0.1, n = 1000, label noise 0: empirical",
    ),
    (
        "Promise broken, the same: selectkit",
        "promise broken, alpha 0.05, delta 0.1, n = 1000, label noise 0: selectkit",
    ),
    ("Certified threshold, 1,000,000 rows", "certified threshold, n = 1,000,000: selectkit"),
    (
        "1,000 bootstrap replicates of AURC, AUGRC and risk at coverage, 100,000 rows",
        "bootstrap, 1,000 replicates, n = 100,000: selectkit, AURC, AUGRC and risk at coverage",
    ),
)


def table() -> str:
    """Return the Markdown table, from the committed results."""
    figures = {}
    for path in sorted((ROOT / "benchmarks/results").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            figure = json.loads(line)
            figures[figure["question"]] = figure
    machines = {figures[question]["machine"] for _, question in ROWS}
    lines = [f"| {'; '.join(sorted(machines))} | |", "|---|---:|"]
    lines += [f"| {label} | {_shown(figures[question])} |" for label, question in ROWS]
    return "\n".join(lines)


def _shown(figure: dict[str, object]) -> str:
    number, unit = float(str(figure["number"])), figure["unit"]
    if unit == "fraction":
        return f"{100 * number:.3g} %"
    return f"{number:.2g} {unit}".replace(" x", " x")


def readme(text: str) -> str:
    """Return the README with the table in its place."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
