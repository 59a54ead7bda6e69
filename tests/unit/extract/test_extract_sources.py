import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from selectkit.errors import ConfigError, DataError
from selectkit.extract import decode, image_reader, open_source, reopen, require_readable
from tests.unit.extract.extract_tools import encoded, image_folder, noise

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def write_csv(folder: Path, text: str, name: str = "list.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode())
    return file


def test_folder_takes_the_first_level_as_class_and_sorts_by_path(tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(noise(4, 4)), "PNG")
    for name in ["b/x.PNG", "b/deep/er/a.jpeg", "a/1.png", "a/10.png", "root.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    for ignored in ["a/.hidden.png", ".git/x.png", "b/notes.txt", "labels.csv"]:
        (tmp_path / ignored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ignored).write_bytes(b"no")
    records = open_source(tmp_path).records()
    assert [(r.id, r.label) for r in records] == [
        ("a/1.png", "a"),
        ("a/10.png", "a"),
        ("b/deep/er/a.jpeg", "b"),
        ("b/x.PNG", "b"),
        ("root.png", None),
    ]
    assert all(r.id == r.path and r.group is None for r in records)
    assert open_source(tmp_path).read("a/1.png") == picture


def test_a_link_loop_is_walked_once(tmp_path: Path) -> None:
    image_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path).records()) == 2


def test_names_that_are_no_utf8_are_escaped_and_read(tmp_path: Path) -> None:
    names = [b"a/\xff\xe9.png", rb"a/written \xe9.png", "a/\u00e9.png".encode()]
    (tmp_path / "a").mkdir()
    for i, name in enumerate(names):
        try:
            (tmp_path / os.fsdecode(name)).write_bytes(b"%d" % i)
        except OSError:
            pytest.skip("this file system takes no such names")
    source = open_source(tmp_path)
    ids = [r.id for r in source.records()]
    assert ids == [r"a/\xff\xe9.png", r"a/written \xe9.png", "a/\u00e9.png"]
    assert [source.read(name) for name in ids] == [b"0", b"1", b"2"]
    assert json.loads(json.dumps(source.describe()).encode())["records"] == 3
    with pytest.raises(FileNotFoundError):
        source.read(r"a/\xfe.png")
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(
        ConfigError, match=r"udcff' is no UTF-8 text, and cannot be kept. Rename it"
    ):
        open_source(tmp_path / os.fsdecode(b"\xff"))


def test_source_reopens_from_its_description(tmp_path: Path) -> None:
    image_folder(tmp_path / "images", {"a": 2, "b": 1})
    rows = (
        "file;x\n".replace(";x", ",kind,site") + "images/a/000.png,1.0,s1\nimages/b/000.png,,s2\n"
    )
    manifest = write_csv(tmp_path, rows)
    sources = [
        open_source(tmp_path / "images"),
        open_source(manifest, path="file", label="kind", group="site"),
        open_source(manifest, path="file", label="none"),
        open_source("digits"),
    ]
    for source in sources:
        description = json.loads(json.dumps(source.describe()))
        again = reopen(description)
        assert again.records() == source.records()
        assert again.describe() == source.describe()
        assert description["records"] == len(source.records())


def test_description_changes_with_the_listing(tmp_path: Path) -> None:
    image_folder(tmp_path, {"a": 2})
    before = open_source(tmp_path).describe()
    image_folder(tmp_path, {"a": 3})
    after = open_source(tmp_path).describe()
    assert before["listing"] != after["listing"]
    assert before["location"] == after["location"] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("path,label\na.png,1\nb.png,0\n", ["1", "0"]),
        ("path,label\na.png,1.0\nb.png,\n", ["1", None]),
        ("path,label\na.png,1.0\nb.png,1.5\n", ["1.0", "1.5"]),
        ("path,label\na.png,NA\nb.png,None\n", ["NA", "None"]),
        ("path,label\na.png, cat \nb.png,  \n", ["cat", None]),
        ("\ufeffpath,label\na.png,\u00e9t\u00e9\nb.png,01\n", ["\u00e9t\u00e9", "01"]),
        ("label , path\nyes,a.png\nno,b.png\n", ["yes", "no"]),
    ],
)
def test_csv_labels_stay_text(tmp_path: Path, text: str, labels: list[str | None]) -> None:
    assert [r.label for r in open_source(write_csv(tmp_path, text)).records()] == labels


def test_parquet_labels_become_text(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "path": ["a.png", "b.png", "c.png"],
        "gaps": [1.0, np.nan, 0.0],
        "whole": [3, 4, 5],
        "flag": [True, False, True],
        "group": ["s", None, "t"],
        "id": [7, 8, 9],
    })
    file = tmp_path / "list.parquet"
    table.to_parquet(file)

    def labels(column: str) -> list[str | None]:
        return [r.label for r in open_source(file, label=column).records()]

    assert labels("gaps") == ["1", None, "0"]
    assert labels("whole") == ["3", "4", "5"]
    assert labels("flag") == ["True", "False", "True"]
    records = open_source(file, label="none").records()
    assert [(r.id, r.group, r.label) for r in records] == [
        ("7", "s", None),
        ("8", None, None),
        ("9", "t", None),
    ]


def test_manifest_reads_files_beside_it_and_absolute_ones(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(b"one")
    file = write_csv(tmp_path, f"path,label\nin/x.png,a\n{tmp_path}/in/./x.png,a\n")
    source = open_source(file)
    assert [source.read(r.path) for r in source.records()] == [b"one", b"one"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path,kind\na.png,1\n", {}, "has no column 'label'; it has 'path', 'kind'. Name another "),
        ("path,kind\na.png,1\n", {}, "For images without labels say so: --label none."),
        ("path,label\na.png,1\n", {"label": "y"}, "has no column 'y'; it has 'path', 'label'."),
        ("file,label\na.png,1\n", {}, "has no column 'path'; it has 'file', 'label'. Name it with"),
        ("path,label\na.png,1\n", {"group": "site"}, "has no column 'site'"),
        ("path,label\na.png,1\na.png,2\n", {}, "1 ids are not unique: 'a.png'. Remove the doubles"),
        ("path,label\na.png,1\n,2\n", {}, "column 'path' is empty in 1 rows (data row 1, counted"),
        ("id,path,label\n,a.png,1\n", {}, "column 'id' is empty in 1 rows (data row 0"),
        ("path,label\n", {}, "has no rows. A manifest needs one row per image."),
        ("", {}, "is not a readable manifest: No columns to parse from file."),
        ('path,label\n"a.png,1\n', {}, "is not a readable manifest: Error tokenizing data"),
    ],
)
def test_bad_manifest_is_refused_in_words(
    tmp_path: Path, text: str, options: dict[str, str], message: str
) -> None:
    file = write_csv(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_source(file, **options)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,path,label\na,a.png,0,\n", "more cells than the header"),
        ("path,label\na.png,b,c\n", "more cells than the header"),
        ("path;label\na.png;b\n", "not separated by commas"),
        ("path,label,label\na.png,b,c\n", "the column 'label' twice"),
    ],
)
def test_shifted_columns_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        open_source(tmp_path / "m.csv")


def test_a_manifest_of_files_that_are_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\nx/a.png,0\nx/b.png,1\n")
    source = open_source(tmp_path / "m.csv")
    with pytest.raises(DataError, match=r"none of the first 2 images .* x/b\.png: No such file"):
        require_readable(source)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/b.png").write_bytes(b"anything")
    require_readable(source)


def test_unreadable_manifests_are_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes("path,label\na.png,\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv is no UTF-8 text. Save it as UTF-8"):
        open_source(latin)
    parquet = tmp_path / "no.parquet"
    parquet.write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match=r"no.parquet is not a readable manifest"):
        open_source(parquet)
    text = write_csv(tmp_path, "x", "list.txt")
    with pytest.raises(DataError, match=r"neither a folder nor a .csv or .parquet manifest"):
        open_source(text)


def test_missing_and_empty_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no source 'nowhere'. Pass a folder of images"):
        open_source("nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no image .* Pass the folder above the class"):
        open_source(tmp_path)
    with pytest.raises(ConfigError, match=r"--label, --group names a column, but .* is not a mani"):
        open_source(tmp_path, label="y", group="g")
    with pytest.raises(ConfigError, match="but digits is not a manifest"):
        open_source("digits", id="x")


def test_reopen_says_what_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder .*gone is gone. Restore it, or pass its new"):
        reopen({"kind": "folder", "location": str(tmp_path / "gone")})
    with pytest.raises(DataError, match="a source of kind 'mine' cannot be opened again"):
        reopen({"kind": "mine"})


def test_images_are_read_without_a_listing(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos", {"a": 2})
    image = (tmp_path / "photos/a/001.png").read_bytes()
    folder = {"kind": "folder", "location": str(tmp_path / "photos")}
    assert image_reader(folder, ["a/001.png"])("a/001.png") == image
    manifest = {"kind": "manifest", "location": str(tmp_path / "gone.csv")}
    assert image_reader(manifest, [])("photos/a/001.png") == image
    digits = open_source("digits")
    assert image_reader(digits.describe(), [])("digits/0007.png") == digits.read("digits/0007.png")
    with pytest.raises(FileNotFoundError):
        image_reader(folder, ["a/9.png"])("a/9.png")
    with pytest.raises(DataError, match="a source of kind 'mine' cannot be opened again"):
        image_reader({"kind": "mine"}, [])


def test_digits_are_the_digits() -> None:
    source = open_source("digits")
    records, truth = source.records(), load_digits()
    assert len(records) == 1797
    assert [r.label for r in records] == [str(y) for y in truth.target]
    for i in (0, 7, 1796):
        grey = np.asarray(decode(source.read(records[i].path)))[..., 0]
        assert np.array_equal(grey, np.round(truth.images[i] * 255 / 16))


def test_digits_bytes_are_equal_on_every_machine() -> None:
    import hashlib

    data = b"".join(open_source("digits").read(f"digits/{i:04d}.png") for i in range(1797))
    assert hashlib.sha256(data).hexdigest() == DIGITS_SHA256


DIGITS_SHA256 = "82be77aa2939271dc94b902b92ae6b4a97fb35c81a82d06c5b7da467be0b10b3"


def test_real_manifest_with_tracks_as_groups() -> None:
    file = SHARED / "gtsrb_train" / "labels.csv"
    if not file.is_file():
        pytest.skip("the traffic sign images are not here")
    records = open_source(file, path="file", label="roadwork", group="track").records()
    assert len(records) == 1407
    assert {r.label for r in records} == {"0", "1"}
    assert sum(r.label == "1" for r in records) == 150
    assert len({r.group for r in records if r.label == "1"}) == 50
