"""The verb `report`: the report of an evaluated run as files, without measuring again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from selectkit import artifact
from selectkit import report as reports
from selectkit.errors import ArtifactError, ConfigError
from selectkit.location import local_path
from selectkit.pipeline.run import RunDirectory
from selectkit.report import RunReport, markdown
from selectkit.report.archive import from_artifact
from selectkit.report.sections import drawings

Format: TypeAlias = Literal["html", "png", "svg", "md"]


@dataclass(frozen=True)
class Written:
    """Files of a report.

    Attributes:
        run: The run directory.
        files: What was written; the first is the one to open.
    """

    run: Path
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"run": str(self.run), "files": [str(file) for file in self.files]}

    def lines(self) -> list[str]:
        """Return one line per file."""
        return [str(file) for file in self.files]


def report(run: str | Path, *, format: Format = "html", out: str | Path | None = None) -> Written:
    """Write the report of an evaluated run, from what `evaluate` left in report.json.

    Args:
        run: Run directory in which `evaluate` has been.
        format: "html": the page. "md": tables, with the figures as PNG beside it. "png", "svg":
            every figure as a file.
        out: A file for html and md, a folder for png and svg; report.html, report.md or figures/
            in the run when None.

    Returns:
        What was written.

    Raises:
        ConfigError: If the format is unknown or `out` cannot be written to.
        ArtifactError: If the run was not evaluated, or fitted or calibrated again since.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}.")
    opened = RunDirectory.open(local_path(run, "a run directory"))
    page = load_report(opened)[0]
    as_pictures = format in {"png", "svg"}
    usual = opened.path / ("figures" if as_pictures else f"report.{format}")
    target = usual if out is None else local_path(out, "a report")
    if as_pictures:
        return Written(opened.path, _pictures(page, target, format))
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise ConfigError(
            f"--out {target}: a file is needed here, in a folder that exists; --format png or svg "
            "writes a folder."
        )
    if format == "html":
        artifact.write_bytes(target, reports.render(page).encode())
        return Written(opened.path, (target,))
    figures = _pictures(page, target.with_name(f"{target.stem}-figures"), "png")
    artifact.write_bytes(target, markdown.document(page, figures[0].parent.name).encode())
    return Written(opened.path, (target, *figures))


def load_report(run: RunDirectory) -> tuple[RunReport, dict[str, Any]]:
    """Return the report of a run and its document.

    Args:
        run: The run.

    Returns:
        The report, and report.json.

    Raises:
        ArtifactError: If the run was not evaluated, or fitted or calibrated again since.
    """
    path = run.path / "report.json"
    if not path.is_file():
        raise ArtifactError(
            f"{path} is missing: `selectkit evaluate {run.path}` measures what a report shows."
        )
    values, arrays = artifact.load(path, "report")
    policy = artifact.content_hash(run.policy()[0].to_dict())
    if values["head"] != run.head.hash or values["policy"] != policy:
        raise ArtifactError(f"{path} belongs to another head or policy. Evaluate again.")
    return from_artifact(values, arrays), values


def _pictures(page: RunReport, folder: Path, form: str) -> tuple[Path, ...]:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; --format {form} writes a folder.")
    if not folder.resolve().parent.is_dir():
        raise ConfigError(f"--out {folder}: the folder {folder.resolve().parent} does not exist.")
    folder.mkdir(exist_ok=True)
    files = []
    for drawing in drawings(page).values():
        path = folder / f"{drawing.name}.{form}"
        artifact.write_bytes(path, drawing.png() if form == "png" else drawing.svg())
        files.append(path)
    return tuple(files)
