"""Reading the listing of a source: walking folders and reading manifest tables."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selectkit.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a source.

    Attributes:
        id: Unique within the source.
        path: What `Source.read` takes; relative to the source unless the user wrote it absolute.
        label: Class name, None when unlabelled.
        group: Group id (site, video, track), None when the image is its own group.
    """

    id: str
    path: str
    label: str | None
    group: str | None


def folder_records(root: Path) -> tuple[list[Record], dict[str, int]]:
    """List the images below a folder; class = first-level subfolder, None directly in the root.

    Args:
        root: An existing folder. Links to folders are followed, each folder once.

    Returns:
        Records sorted by relative POSIX path, which is also their id; and the number of other
        files, without hidden ones, by suffix in lower case.
    """
    images: list[Path] = []
    others = Counter[str]()
    for path in _files(root):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others[suffix or "no suffix"] += 1
    paths = sorted(p.relative_to(root).as_posix() for p in images)
    records = [Record(p, p, p.split("/")[0] if "/" in p else None, None) for p in paths]
    return records, dict(sorted(others.items()))


def read_table(file: Path) -> "pd.DataFrame":
    """Read a manifest; CSV cells stay text and only empty cells are missing.

    Args:
        file: A `.csv` (UTF-8, with or without byte-order mark) or `.parquet` file.

    Returns:
        The table, its column names stripped of blanks.

    Raises:
        DataError: If the suffix is unknown or the file cannot be parsed.
    """
    import pandas as pd

    suffix = file.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise DataError(f"{file} is neither a folder nor a .csv or .parquet manifest.")
    try:
        table = _read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    except UnicodeError:
        raise DataError(
            f"{file} is no UTF-8 text. Save it as UTF-8, separated by commas."
        ) from None
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{file} is not a readable manifest: {_first_line(error)}.") from None
    return table.rename(columns=lambda name: str(name).strip())


def _read_csv(file: Path) -> "pd.DataFrame":
    import pandas as pd

    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    header = pd.read_csv(file, header=None, nrows=1, **options).iloc[0].str.strip().tolist()
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise ValueError("its columns are not separated by commas; save it with commas")
    twice = [name for name, n in Counter(header).items() if n > 1 and name]
    if twice:
        raise ValueError(f"it has the column {twice[0]!r} twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table: pd.DataFrame = pd.read_csv(file, index_col=False, **options)
        except pd.errors.ParserWarning:
            raise ValueError(
                "it has rows with more cells than the header; a comma too many at the end of a "
                "line, or a comma within a cell that is not in quotes"
            ) from None
    return table


def column_of(
    have: list[str], asked: str | None, default: str | None, file: Path, hint: str = ""
) -> str | None:
    """Return the name of a manifest column, or None when nothing was asked and none is needed.

    Args:
        have: The columns of the table.
        asked: The column the user named, or None.
        default: The column to use otherwise; None when the column is optional and absent.
        file: The manifest, for the message.
        hint: What the message advises.

    Returns:
        A name in `have`, or None.

    Raises:
        DataError: If the column is not in the table.
    """
    name = asked if asked is not None else default
    if name is not None and name not in have:
        raise DataError(
            f"{file} has no column {name!r}; it has {', '.join(map(repr, have))}. {hint}".rstrip()
        )
    return name


def text_column(
    column: "pd.Series[Any]", name: str, file: Path, *, required: bool
) -> list[str | None]:
    """Return a manifest column as text; missing and blank cells become None.

    Whole numbers read as floats (a column of integers with gaps) lose their ".0".

    Args:
        column: The cells.
        name: The column's name, for the message.
        file: The manifest, for the message.
        required: Whether a missing cell is an error.

    Returns:
        One entry per row.

    Raises:
        DataError: If a required cell is missing; the first rows are named.
    """
    missing = column.isna().tolist()
    values = [None if gone else _text(v) for v, gone in zip(column.tolist(), missing, strict=True)]
    cells = [v or None for v in values]
    if all(v is None or re.fullmatch(r"-?\d+\.0+", v) for v in cells):
        cells = [v and v.split(".")[0] for v in cells]
    empty = [row for row, v in enumerate(cells) if v is None]
    if required and empty:
        rows = ", ".join(str(row) for row in empty[:3]) + (", ..." if len(empty) > 3 else "")
        raise DataError(
            f"{file}: column {name!r} is empty in {len(empty)} rows (data row {rows}, counted "
            "from 0). Every row needs it."
        )
    return cells


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _files(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        facts = here.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (here / name for name in files if not name.startswith("."))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
