"""The page about monitoring says what the library does."""

import doctest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "monitoring.md"


def test_the_examples_of_the_page_run_and_print_what_it_shows() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    text = "\n".join("" if line.startswith("```") else line for line in lines)
    page = doctest.DocTestParser().get_doctest(text, {}, "monitoring", str(PAGE), 0)
    assert len(page.examples) > 25
    shown: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(page, out=shown.append).failed == 0, "".join(shown)
