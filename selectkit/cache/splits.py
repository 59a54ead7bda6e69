"""Which row belongs to which split: a salted hash of its group, and nothing else.

A row's key is its group (site, video, track) or, without one, the content hash of its image; so
neither a group nor a duplicated image ever straddles two splits, and a split depends on no order,
no machine and no row that was added later.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit import artifact, schemas
from selectkit.cache import layout
from selectkit.cache.files import Files
from selectkit.errors import ArtifactError, CacheError, ConfigError

SPLITS = ("train", "val_select", "val_calib", "val_test")
PATH = "splits.json"


@dataclass(frozen=True, slots=True)
class SplitScheme:
    """Salt and fractions of train, val_select, val_calib, val_test.

    Attributes:
        salt: Another salt gives an independent assignment.
        fractions: Expected share of keys (not rows) of each split, in the order of `SPLITS`.

    Examples:
        >>> SplitScheme().assign(["sha256:aa", "site-7", ""]).tolist()
        ['val_select', 'val_calib', '']
    """

    kind: ClassVar[str] = "splits"
    salt: str = "selectkit"
    fractions: tuple[float, float, float, float] = (0.6, 0.1, 0.2, 0.1)

    def __post_init__(self) -> None:
        if len(self.fractions) != len(SPLITS) or any(
            not (math.isfinite(f) and f >= 0) for f in self.fractions
        ):
            raise ConfigError(
                f"split fractions must be {len(SPLITS)} numbers >= 0 for {', '.join(SPLITS)}, "
                f"got {self.fractions}."
            )
        if abs(sum(self.fractions) - 1) > 1e-9:
            raise ConfigError(f"split fractions must sum to 1, got {sum(self.fractions):.6g}.")

    def assign(self, keys: Sequence[str] | npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        """Return the split of each key.

        SHA-256 of salt, a zero byte and the key; its first eight bytes, big-endian, over 2^64 are
        uniform in [0, 1); the cumulative fractions cut that interval.

        Args:
            keys: Length M. The empty key (a file that could not be read) belongs to no split.

        Returns:
            Shape (M,), object: names of splits, or "".
        """
        salted = hashlib.sha256(f"{self.salt}\0".encode())
        digests = bytearray()
        for key in keys:
            state = salted.copy()
            state.update(key.encode())
            digests += state.digest()[:8]
        u = np.frombuffer(bytes(digests), dtype=">u8").astype(np.float64) / 2.0**64
        place = np.searchsorted(np.cumsum(self.fractions)[:-1], u, side="right")
        names = np.array(SPLITS, dtype=object)[place]
        names[np.array([key == "" for key in keys], dtype=bool)] = ""
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return salt and fractions as JSON values."""
        return {"salt": self.salt, "fractions": dict(zip(SPLITS, self.fractions, strict=True))}

    def save(self, files: Files) -> None:
        """Write the artifact `splits.json`, with its own checksum, atomically."""
        rest = {"kind": self.kind, "format_version": layout.FORMAT_VERSION, **self.to_dict()}
        document = {**rest, "checksum": artifact.content_hash(rest)}
        schemas.validate(document, PATH)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        files.write(PATH, text.encode())

    @classmethod
    def load(cls, files: Files) -> Self:
        """Read `splits.json`.

        Args:
            files: The store's.

        Returns:
            The scheme.

        Raises:
            CacheError: If the file is missing, damaged, or of an unknown version.
        """
        where = files.where(PATH)
        if not files.exists(PATH):
            usual = cls()
            shares = ",".join(map(str, usual.fractions))
            raise CacheError(
                f"{where} is missing: `selectkit split {files.place} --salt {usual.salt} "
                f"--fractions {shares}` writes the usual splits; name others if it had others."
            )
        document = layout.read_json(files, PATH)
        try:
            schemas.validate(document, where)
        except ArtifactError as error:
            raise CacheError(str(error)) from None
        rest = {key: value for key, value in document.items() if key != "checksum"}
        if document["checksum"] != artifact.content_hash(rest):
            raise CacheError(
                f"{where} is damaged: its checksum does not match. Set the splits again."
            )
        train, select, calib, test = (float(document["fractions"][name]) for name in SPLITS)
        return cls(document["salt"], (train, select, calib, test))
