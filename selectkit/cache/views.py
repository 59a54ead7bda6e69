"""What a view and a head's logits are: the descriptions kept in their zarr.json."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from selectkit import artifact
from selectkit.cache import dtypes, layout
from selectkit.cache.files import Files
from selectkit.cache.manifest import validate
from selectkit.errors import CacheError, ConfigError
from selectkit.location import Location


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """One backbone over the index.

    Attributes:
        name: The view's name.
        fingerprint: What made the features: backbone, weights, preprocessing, versions.
        features: (D, dtype) by array name.
        drift: Reference numbers for other machines, or None.
    """

    name: str
    fingerprint: Mapping[str, Any]
    features: Mapping[str, tuple[int, str]]
    drift: Mapping[str, Any] | None

    @classmethod
    def of(
        cls,
        name: str,
        fingerprint: Mapping[str, Any],
        features: Mapping[str, tuple[int, str]],
        drift: Mapping[str, Any] | None,
    ) -> Self:
        """Check the parts of a view and put them together.

        Args:
            name: The view's name.
            fingerprint: JSON values.
            features: (D, dtype) by array name.
            drift: JSON values, or None.

        Returns:
            The description.

        Raises:
            ConfigError: If a name, a dimension or a dtype is not usable, or there is no feature.
        """
        layout.checked_name(name, "view")
        if not features:
            raise ConfigError(f"view {name!r} needs at least one feature.")
        for feature, (dim, dtype) in features.items():
            layout.checked_name(feature, "feature")
            dtypes.checked_dtype(dtype)
            if dim < 1:
                raise ConfigError(f"feature {feature!r} needs a dimension >= 1, got {dim}.")
        return cls(
            name,
            layout.json_object(fingerprint, "fingerprint"),
            {feature: (int(dim), dtype) for feature, (dim, dtype) in sorted(features.items())},
            None if drift is None else layout.json_object(drift, "drift"),
        )

    @classmethod
    def read(cls, files: Files, name: str) -> Self:
        """Read a view's description from its zarr.json.

        Args:
            files: The store's.
            name: The view's name.

        Returns:
            The description.

        Raises:
            CacheError: If it is missing, damaged, or breaks its schema.
        """
        folder = f"views/{name}"
        manifest = layout.read_zarr(files, folder)["attributes"].get("selectkit", {})
        validate(manifest, files.where(f"{folder}/zarr.json"))
        features = {f: (spec["dim"], spec["dtype"]) for f, spec in manifest["features"].items()}
        return cls(name, manifest["fingerprint"], features, manifest.get("drift"))

    @property
    def hash(self) -> str:
        """Content hash of fingerprint and features: equal views have equal hashes."""
        return artifact.content_hash(self._identity())

    def document(self) -> dict[str, Any]:
        """Return the view's zarr.json."""
        manifest = {"kind": "view", "format_version": layout.FORMAT_VERSION, **self._identity()}
        if self.drift is not None:
            manifest["drift"] = dict(self.drift)
        return layout.group_document({"selectkit": manifest})

    def require_equal(self, wanted: Self, place: Location) -> None:
        """Refuse to mix features that were made differently.

        Args:
            wanted: What is about to be written or read.
            place: The store; used in the message.

        Raises:
            CacheError: With every key that differs and both its values.
        """
        old = dict(_flat({**self.fingerprint, "features": self._identity()["features"]}))
        new = dict(_flat({**wanted.fingerprint, "features": wanted._identity()["features"]}))
        found = [
            f"{key} {old.get(key, 'not there')}, now {new.get(key, 'not there')}"
            for key in sorted(old.keys() | new.keys())
            if (key in old, old.get(key)) != (key in new, new.get(key))
        ]
        if found:
            raise CacheError(
                f"view {self.name!r} of {place} was made with {'; '.join(found)}: "
                "use another --view name or another store."
            )

    def _identity(self) -> dict[str, Any]:
        features = {f: {"dim": dim, "dtype": dtype} for f, (dim, dtype) in self.features.items()}
        return {"fingerprint": dict(self.fingerprint), "features": features}


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """Whose logits an array holds.

    Attributes:
        classes: Label names of its K columns.
        head_hash: Content hash of the head.
        splits: How the store was split when they were written, as `SplitScheme.to_dict`; None in
            stores that do not say.
    """

    classes: tuple[str, ...]
    head_hash: str
    splits: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, files: Files, view: str, head: str) -> Self:
        """Read the description of a head's logits from the zarr.json of their array.

        Args:
            files: The store's.
            view: The view's name.
            head: The head's name.

        Returns:
            The description.

        Raises:
            CacheError: If it is missing or damaged.
        """
        attributes = layout.read_zarr(files, layout.logits_folder(view, head))["attributes"]
        classes, splits = tuple(attributes["classes"]), attributes.get("splits")
        return cls(classes, attributes["head_hash"], splits)

    def document(self, rows: int, rows_per_shard: int) -> dict[str, Any]:
        """Return the zarr.json of the logits' array."""
        attributes: dict[str, Any] = {
            "classes": list(self.classes),
            "head_hash": self.head_hash,
        }
        if self.splits is not None:
            attributes["splits"] = dict(self.splits)
        shape = (rows, len(self.classes))
        return layout.array_document(shape, rows_per_shard, "float32", attributes)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested objects by dotted key."""
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
