"""For whom a promise is to hold on its own: a column of the manifest that images came from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.cache import FeatureStore, Rows
from selectkit.errors import ConfigError, DataError
from selectkit.extract.listing import column_of, read_table, text_column
from selectkit.location import location

Names = npt.NDArray[np.str_]


class Strata:
    """One column of a store's manifest, by the id of the image."""

    def __init__(self, column: str, values: Mapping[str, str | None]) -> None:
        """Keep the values.

        Args:
            column: Its name.
            values: By id.
        """
        self.column, self._values = column, values

    @classmethod
    def of(cls, store: FeatureStore, column: str) -> "Strata":
        """Read the column.

        Args:
            store: A store that was extracted from a manifest.
            column: Name of the column.

        Returns:
            The strata.

        Raises:
            ConfigError: If the store was not extracted from a manifest.
            DataError: If the manifest is gone, or has no such column.
        """
        source: dict[str, Any] = store.source
        if source.get("kind") != "manifest":
            raise ConfigError(
                f"--per-group {column}: {store.path} was not extracted from a CSV or Parquet "
                "manifest, which is where the column would stand."
            )
        file = location(source["location"])
        table = read_table(file)
        name = column_of(list(table.columns), column, None, file)
        assert name is not None  # a named column is found or refused
        columns = source["columns"]
        key = columns["id"] or columns["path"]
        ids = text_column(table[key], key, file, required=True)
        values = text_column(table[name], name, file, required=False)
        return cls(column, {str(i): v for i, v in zip(ids, values, strict=True)})

    def among(self, rows: Rows) -> Names:
        """Return the value of each row.

        Args:
            rows: M rows of the store.

        Returns:
            Shape (M,).

        Raises:
            DataError: If a row has no value.
        """
        found = [self._values.get(str(i)) for i in rows.ids]
        missing = [str(i) for i, value in zip(rows.ids, found, strict=True) if value is None]
        if missing:
            raise DataError(
                f"--per-group {self.column}: {len(missing):,} images of {rows.split} have no value "
                f"in that column, the first is {missing[0]}. Give them one, for instance 'other'."
            )
        return np.array(found, dtype=np.str_)
