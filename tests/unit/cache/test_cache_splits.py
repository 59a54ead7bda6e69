import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import SPLITS, FeatureStore, IndexPart, SplitScheme
from selectkit.errors import CacheError, ConfigError
from tests.unit.cache.cache_samples import filled, part


def test_golden_assignment() -> None:
    keys = [f"site-{i}" for i in range(20)] + ["sha256:00", "Straße", ""]
    expected = "ctttsxccttstcscttccttc-"
    letters = dict(zip(SPLITS, "tscx", strict=True)) | {"": "-"}
    assert "".join(letters[s] for s in SplitScheme().assign(keys)) == expected


def test_assignment_is_the_documented_hash() -> None:
    scheme = SplitScheme(salt="pepper", fractions=(0.25, 0.25, 0.25, 0.25))
    keys = [str(i) for i in range(200)]
    for key, split in zip(keys, scheme.assign(keys), strict=True):
        digest = hashlib.sha256(b"pepper\0" + key.encode()).digest()
        assert split == SPLITS[digest[0] // 64]


def test_another_salt_is_another_assignment() -> None:
    keys = [str(i) for i in range(1000)]
    same = SplitScheme().assign(keys) == SplitScheme(salt="other").assign(keys)
    assert 0.3 < np.mean(same) < 0.55  # independent: 0.36 + 0.01 + 0.04 + 0.01 = 0.42


def test_a_split_of_no_size_gets_nothing() -> None:
    keys = [str(i) for i in range(2000)]
    found = set(SplitScheme(fractions=(0.0, 0.5, 0.0, 0.5)).assign(keys))
    assert found == {"val_select", "val_test"}


@pytest.mark.parametrize(
    ("fractions", "text"),
    [
        ((0.6, 0.1, 0.2, 0.2), "split fractions must sum to 1, got 1.1."),
        ((0.6, -0.1, 0.3, 0.2), "split fractions must be 4 numbers >= 0 for train, val_select"),
        ((float("nan"), 0.1, 0.2, 0.1), "split fractions must be 4 numbers >= 0"),
        ((0.5, 0.5), "split fractions must be 4 numbers >= 0"),
    ],
)
def test_fractions_are_checked(fractions: tuple[float, float, float, float], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        SplitScheme(fractions=fractions)


def test_a_store_keeps_its_scheme(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.splits == SplitScheme()
    scheme = SplitScheme(salt="2", fractions=(0.25, 0.25, 0.25, 0.25))
    store.set_splits(scheme)
    assert FeatureStore.open(tmp_path).splits == scheme


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"selectkit"', '"selectKit"', "its checksum does not match. Set the splits again."),
        ("0.6", "6", "does not match its schema: fractions/train: 6 is greater"),
        ('"format_version": 1', '"format_version": 3', "unknown to this release"),
    ],
)
def test_a_damaged_scheme_is_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    store = filled(tmp_path)
    file = tmp_path / "splits.json"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(CacheError, match=re.escape(text)):
        store.read("base", "train")


def test_duplicates_share_a_split_unless_groups_part_them(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, source={}, rows=300)
    base = part(range(300))
    n = len(base.id)
    columns = {name: list(getattr(base, name)) for name in IndexPart.__dataclass_fields__}
    columns["status"] = ["ok"] * n
    columns["content_hash"] = [f"sha256:{i % 100}" for i in range(n)]  # every image three times
    store.write_index(0, IndexPart(**{**columns, "group": [None] * n}))
    assert store.duplicates_across_splits() == 0
    store.write_index(0, IndexPart(**{**columns, "group": [f"site-{i}" for i in range(n)]}))
    split = store.splits.assign(store.index().key)
    expected = sum(len({split[i], split[i + 100], split[i + 200]}) > 1 for i in range(100))
    assert store.duplicates_across_splits() == expected
    assert expected > 40
