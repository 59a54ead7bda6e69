"""Matplotlib figures as inline SVG whose colours follow the page's light or dark theme.

A figure is drawn in the light palette. Its SVG names the colours as CSS variables, so the page's
style sheet decides what they are. Text stays text and takes the font of the page.
"""

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The light theme; style.css defines the same variables, and the dark ones.
PALETTE = {
    "ink": "#1c2127",
    "muted": "#5a636e",
    "line": "#dcd9d2",
    "paper": "#fffefb",
    "accent": "#1d5c85",
    "wrong": "#b23a2a",
}
# Lines of several runs in one figure; told apart by their dashes, too.
SERIES = {
    "series-1": "#1d5c86",
    "series-2": "#b5541c",
    "series-3": "#2c7a4f",
    "series-4": "#7b4a9e",
    "series-5": "#8a6a00",
    "series-6": "#a8326a",
}
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), "-", (0, (5, 2)))
WIDTH = 5.0  # inches; 72 SVG units each
_DPI = 200
_FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "font.family": "sans-serif",
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.edgecolor": PALETTE["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn and not yet saved.

    Attributes:
        name: Its name: part of a file name, and of the element ids inside its SVG.
        figure: Drawn in colours of `PALETTE` and `SERIES`.
        alt: What it says, for those who do not see it.
    """

    name: str
    figure: "Figure"
    alt: str

    def inline(self) -> str:
        """Return an `<svg>` element for a page that defines the colours."""
        with theme(self.name):
            return inline(self.figure, self.alt)

    def svg(self) -> bytes:
        """Return an SVG file of its own: light colours, on paper."""
        text = self.inline()
        for variable, colour in {**PALETTE, **SERIES}.items():
            text = text.replace(f"var(--{variable})", colour)
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
        size = f'width="{box[1]}" height="{box[2]}" ' if box else ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}font-family="{_FONT}" '
        start = text.index(">") + 1
        paper = f'<rect width="100%" height="100%" fill="{PALETTE["paper"]}"/>'
        return (head + text[len("<svg ") : start] + paper + text[start:] + "\n").encode()

    def png(self) -> bytes:
        """Return a PNG file, on paper."""
        with theme(self.name):
            buffer = io.BytesIO()
            self.figure.savefig(
                buffer,
                format="png",
                dpi=_DPI,
                metadata={"Software": None, "Description": self.alt},
                facecolor=PALETTE["paper"],
            )
            return buffer.getvalue()


def theme(name: str) -> AbstractContextManager[None]:
    """Return the context in which a figure is drawn and saved; global settings stay as they are.

    Args:
        name: Name of the figure; element ids inside its SVG depend on it, so several figures fit
            into one page, and equal input draws equal bytes.

    Returns:
        A context manager.
    """
    from matplotlib import rc_context

    return rc_context({**_STYLE, "svg.hashsalt": name})


def inline(figure: "Figure", alt: str) -> str:
    """Return a figure as an `<svg>` element for an HTML page.

    Args:
        figure: Drawn in colours of `PALETTE`.
        alt: What the picture says, for those who do not see it.

    Returns:
        One element with role "img": no XML prologue, metadata or namespaces, fluid width, theme
        colours as CSS variables.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for variable, colour in {**PALETTE, **SERIES}.items():
        text = text.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {box.group() if box else ""} role="img" aria-label="{escape(alt)}">'
    return head + text[text.index(">") + 1 :]
