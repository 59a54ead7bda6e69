"""The verb `split`: how large the four splits are, and what they can certify and verify."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selectkit.cache import SPLITS, FeatureStore, SplitScheme
from selectkit.config import SplitConfig
from selectkit.errors import ConfigError
from selectkit.location import Location, location
from selectkit.pipeline.extract import settled
from selectkit.pipeline.inputs import positive_index
from selectkit.risk import labels_needed

ALPHAS = (0.01, 0.02, 0.05, 0.1)
DELTA = 0.1


@dataclass(frozen=True)
class SplitSummary:
    """Sizes of the splits of one store.

    Attributes:
        store: The store.
        scheme: Salt and fractions.
        classes: Label names.
        positive: The positive label, None when there is none.
        counts: By split name: readable images, labelled ones, distinct groups; images and groups
            by class. A certificate rests on groups, since images of one are not independent.
        straddling: Identical images that different groups carried into different splits.
    """

    store: Location
    scheme: SplitScheme
    classes: tuple[str, ...]
    positive: str | None
    counts: dict[str, dict[str, Any]]
    straddling: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "store": str(self.store),
            "splits": self.scheme.to_dict(),
            "classes": list(self.classes),
            "positive": self.positive,
            "counts": self.counts,
            "straddling": self.straddling,
            "warnings": self.warnings,
        }

    def sizes_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of sizes."""
        named = sum(max(len(c), 6) + 2 for c in self.classes) <= 40
        header = ["split", "images", "labelled", "groups"]
        header += list(self.classes) if named else ["smallest class", "largest class"]
        rows = []
        for name, count in self.counts.items():
            by_class = list(count["by_class"].values())
            shown = by_class if named else [min(by_class), max(by_class)]
            cells = [count["images"], count["labelled"], count["groups"], *shown]
            rows.append([name, *(f"{cell:,}" for cell in cells)])
        return header, rows

    def budget_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: which rates are within reach, at confidence 1 - DELTA."""
        header = ["rate", "needs at least", *(f"{who} in {s}" for s, who, _ in self._evidence())]
        rows = []
        for alpha in ALPHAS:
            needs = labels_needed(alpha, DELTA)
            cells = [f"{n:,}{'' if n >= needs else ' (too few)'}" for _, _, n in self._evidence()]
            rows.append([f"<= {alpha:.0%}", f"{needs:,}", *cells])
        return header, rows

    def lines(self) -> list[str]:
        """Return further lines for people."""
        return [
            f"needs at least: with not one error among them, at confidence {1 - DELTA:.0%}; "
            "an image without a group is its own group",
            f"salt {self.scheme.salt!r}, fractions {self.scheme.fractions}",
            *([f"next: selectkit fit {self.store} --out RUN"] if len(self.classes) > 1 else []),
        ]

    @property
    def warnings(self) -> list[str]:
        """What the user should look at."""
        lines = []
        for split, who, n in self._evidence():
            if n < labels_needed(0.02, DELTA):
                rate = "error" if self.positive is None else "false negative rate"
                lines.append(
                    f"{split} has {n:,} {who}: no {rate} below {_smallest_rate(n):.1%} can be "
                    f"shown with them at confidence {1 - DELTA:.0%} "
                    f"(2% needs {labels_needed(0.02, DELTA)})"
                )
        for split, count in self.counts.items():
            absent = [name for name, n in count["by_class"].items() if not n]
            if absent and count["labelled"]:
                lines.append(f"{split} has no image of: {', '.join(absent)}")
            elif absent:
                lines.append(f"{split} has no labelled image")
        if self.positive is not None:
            lines += self._stratification()
        if self.straddling:
            lines.append(
                f"{self.straddling:,} images have an identical copy in another group and another "
                "split; merge those groups, or the test rates flatter"
            )
        return lines

    def _evidence(self) -> list[tuple[str, str, int]]:
        return [(split, *self._usable(self.counts[split])) for split in ("val_calib", "val_test")]

    def _usable(self, count: dict[str, Any]) -> tuple[str, int]:
        if self.positive is None:
            return "groups", count["labelled_groups"]
        return "positive groups", count["groups_by_class"][self.positive]

    def _stratification(self) -> list[str]:
        """Warn where the share of positives is far from the overall one (beyond 3 s.e.)."""
        n = np.array([c["labelled"] for c in self.counts.values()], dtype=float)
        k = np.array([c["by_class"][self.positive] for c in self.counts.values()], dtype=float)
        overall = k.sum() / max(n.sum(), 1)
        error = np.sqrt(overall * (1 - overall) / np.maximum(n, 1))
        return [
            f"{split} has {share:.1%} positives, the whole store {overall:.1%}: "
            "groups are few or uneven"
            for split, share, far in zip(
                self.counts, k / np.maximum(n, 1), abs(k / np.maximum(n, 1) - overall) > 3 * error,
                strict=True,
            )
            if far
        ]  # fmt: skip


def split(
    store: str | Path,
    *,
    config: SplitConfig | None = None,
    positive: str | None = None,
    **settings: Any,
) -> SplitSummary:
    """Summarise the splits of a store; with a salt or fractions, draw them anew first.

    Args:
        store: Feature store.
        config: Settings; keeps the store's split when None.
        positive: The positive label; of two classes, the last by default.
        **settings: Fields of `SplitConfig`, over `config`.

    Returns:
        The sizes.

    Raises:
        ConfigError: If the fractions are not four numbers that sum to one.
        CacheError: If the store is missing or damaged.
        DataError: If no class has the positive label.
    """
    chosen = settled(SplitConfig, config, settings)
    opened = FeatureStore.open(store)
    index = opened.index()
    at = positive_index(index.classes, positive) if index.classes else None
    if chosen.salt is not None or chosen.fractions is not None:
        opened.set_splits(
            SplitScheme(
                salt=opened.splits.salt if chosen.salt is None else chosen.salt,
                fractions=fractions_of(chosen.fractions) or opened.splits.fractions,
            )
        )
    names = opened.splits.assign(index.key)
    counts = {}
    for name in SPLITS:
        inside = index.ok & (names == name)
        label = index.label[inside]
        counts[name] = {
            "images": int(inside.sum()),
            "labelled": int((inside & index.labelled).sum()),
            "groups": len(set(index.key[inside])),
            "labelled_groups": len(set(index.key[inside & index.labelled])),
            "by_class": {c: int((label == c).sum()) for c in index.classes},
            "groups_by_class": {c: len(set(index.key[inside][label == c])) for c in index.classes},
        }
    return SplitSummary(
        store=location(store),
        scheme=opened.splits,
        classes=index.classes,
        positive=None if at is None else index.classes[at],
        counts=counts,
        straddling=opened.duplicates_across_splits(),
    )


def evidence(
    store: FeatureStore, split_name: str, risk: str, positive: str | None
) -> tuple[str, int]:
    """Count the independent pieces of evidence that a split has about a risk.

    Args:
        store: The store.
        split_name: Name of the split.
        risk: A target that promises something.
        positive: The positive label; needed by the targets about positives and negatives.

    Returns:
        What is counted ("groups", "positive groups" or "negative groups"), and how many.
    """
    index = store.index()
    inside = index.ok & index.labelled & (store.splits.assign(index.key) == split_name)
    if risk in {"error", "deferral"}:
        return "groups", len(set(index.key[inside]))
    is_positive = index.label == positive
    negatives = risk in {"fpr", "false_alarm"}
    inside &= ~is_positive if negatives else is_positive
    return f"{'negative' if negatives else 'positive'} groups", len(set(index.key[inside]))


def fractions_of(text: str | None) -> tuple[float, float, float, float] | None:
    """Read the four shares of a split; None stays None."""
    if text is None:
        return None
    try:
        train, select, calib, test = map(float, text.split(","))
    except ValueError:
        raise ConfigError(
            f"fractions = {text!r}: give four numbers for train,val_select,val_calib,val_test, "
            "for instance 0.6,0.1,0.2,0.1."
        ) from None
    return train, select, calib, test


def _smallest_rate(n: int) -> float:
    """The smallest rate that n samples without an error can certify: 1 - DELTA^(1/n)."""
    return 1.0 if n == 0 else float(1 - DELTA ** (1 / n))
