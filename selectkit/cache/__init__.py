"""The feature store: images once, numbers ever after.

Plain Zarr v3, readable by any Zarr reader, laid out so that a local store can be memory-mapped.
"""

from selectkit.cache.index import Index, IndexPart
from selectkit.cache.info import StoreInfo, ViewSummary
from selectkit.cache.lock import BusyError, UnwritableError
from selectkit.cache.reading import Features, Rows
from selectkit.cache.repair import repair
from selectkit.cache.sharded import ShardedArray
from selectkit.cache.splits import SPLITS, SplitScheme
from selectkit.cache.store import FeatureStore
from selectkit.cache.verify import Problem
from selectkit.cache.views import HeadInfo, ViewInfo

__all__ = [
    "SPLITS",
    "BusyError",
    "FeatureStore",
    "Features",
    "HeadInfo",
    "Index",
    "IndexPart",
    "Problem",
    "Rows",
    "ShardedArray",
    "SplitScheme",
    "StoreInfo",
    "UnwritableError",
    "ViewInfo",
    "ViewSummary",
    "repair",
]
