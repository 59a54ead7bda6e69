"""Reading the listing of a source: walking folders and reading manifest tables."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from selectkit.errors import DataError
from selectkit.location import Location, Url
from selectkit.objects import Objects

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)


MANIFEST_SUFFIXES = frozenset({".csv", ".parquet"})


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


def folder_records(root: Location) -> tuple[list[Record], dict[str, int]]:
    """List the images below a folder; class = first-level subfolder, None directly in the root.

    Args:
        root: An existing folder. Links to folders are followed, each folder once. In an object
            store: what objects begin with.

    Returns:
        Records sorted by relative POSIX path, which is also their id; and the number of other
        files, without hidden ones, by suffix in lower case.
    """
    images: list[str] = []
    others = Counter[str]()
    for path in _objects(root) if isinstance(root, Url) else _relative_files(root):
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others[suffix or "no suffix"] += 1
    paths = sorted(images)
    records = [Record(p, p, p.split("/")[0] if "/" in p else None, None) for p in paths]
    return records, dict(sorted(others.items()))


def _relative_files(root: Path) -> Iterator[str]:
    for path in _files(root):
        yield escaped(path.relative_to(root).as_posix())


def escaped(path: str) -> str:
    r"""Return a path as text that can be stored: bytes of a name that are no UTF-8 become \xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unescaped(path: Path) -> Path:
    """Return the file that `escaped` made this path of."""
    raw = re.sub(rb"\\x([89a-f][0-9a-f])", lambda m: bytes([int(m[1], 16)]), os.fsencode(path))
    return Path(os.fsdecode(raw))


def _objects(root: Url) -> Iterator[str]:
    """All objects but hidden ones and those that stand for a folder."""
    for entry in Objects(root).list():
        hidden = any(part.startswith(".") for part in entry.path.split("/"))
        if not hidden and (entry.size or "." in entry.path.rpartition("/")[2]):
            yield entry.path


def read_table(file: Location) -> "pd.DataFrame":
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
    if suffix not in MANIFEST_SUFFIXES:
        raise DataError(f"{file} is neither a folder nor a .csv or .parquet manifest.")
    try:
        opened = _opener(file)
        table = _read_csv(opened) if suffix == ".csv" else pd.read_parquet(opened())
    except UnicodeError:
        raise DataError(
            f"{file} is no UTF-8 text. Save it as UTF-8, separated by commas."
        ) from None
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{file} is not a readable manifest: {_first_line(error)}.") from None
    return table.rename(columns=lambda name: str(name).strip())


def _opener(file: Location) -> Callable[[], Path | BytesIO]:
    """What gives pandas the file to read, each time anew."""
    if isinstance(file, Path):
        return lambda: file
    data = Objects(file.parent).get(file.name)[0]
    return lambda: BytesIO(data)


def _read_csv(opened: Callable[[], Path | BytesIO]) -> "pd.DataFrame":
    import pandas as pd

    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    header = pd.read_csv(opened(), header=None, nrows=1, **options).iloc[0].str.strip().tolist()
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise ValueError("its columns are not separated by commas; save it with commas")
    twice = [name for name, n in Counter(header).items() if n > 1 and name]
    if twice:
        raise ValueError(f"it has the column {twice[0]!r} twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table: pd.DataFrame = pd.read_csv(opened(), index_col=False, **options)
        except pd.errors.ParserWarning:
            raise ValueError(
                "it has rows with more cells than the header; a comma too many at the end of a "
                "line, or a comma within a cell that is not in quotes"
            ) from None
    return table


def column_of(
    have: list[str], asked: str | None, default: str | None, file: Location, hint: str = ""
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
    column: "pd.Series[Any]", name: str, file: Location, *, required: bool
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
