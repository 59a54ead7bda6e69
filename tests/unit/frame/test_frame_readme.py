from pathlib import Path

from benchmarks._readme import END, START, readme

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_table_is_made_from_the_committed_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert readme(text) == text
    assert "| --- |" not in text
    assert len(text.partition(START)[2].partition(END)[0].splitlines()) > 5


def test_every_linked_file_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for link in (part.partition(")")[0] for part in text.split("](")[1:]):
        assert (README.parent / link).exists(), link
