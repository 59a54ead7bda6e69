import tempfile
from math import sqrt
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selectkit.cache import SPLITS, FeatureStore, IndexPart, SplitScheme


def part(rows: range) -> IndexPart:
    names = [f"image-{i}" for i in rows]
    n = len(names)
    hashes = [f"sha256:{i}" for i in rows]
    return IndexPart(names, names, [None] * n, [None] * n, hashes, ["ok"] * n, [1] * n, [1] * n)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    n, d, r = (
        data.draw(st.integers(1, top), name) for name, top in [("N", 40), ("D", 5), ("R", 12)]
    )
    dtype = data.draw(st.sampled_from(["float16", "float32", "bfloat16"]), "dtype")
    width = {"float16": 16, "float32": 32, "bfloat16": 32}[dtype]
    largest = {"float16": 65504.0, "float32": 2.0**127, "bfloat16": 2.0**127}[dtype]
    numbers = (
        st.floats(-largest, largest, width=32)
        if width == 32
        else st.floats(-largest, largest, width=16)
    )
    x = data.draw(hnp.arrays(np.float32, (n, d), elements=numbers), "x")
    order = data.draw(st.permutations(range(-(-n // r))), "order of shards")
    rows = data.draw(
        hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(-n, n - 1)), "rows"
    )
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.create(Path(folder), source={}, rows=n, rows_per_shard=r)
        store.create_view("v", fingerprint={}, features={"cls": (d, dtype)})
        with store.writing():
            for shard in order:
                span = store.shard_rows(shard)
                store.write_index(shard, part(span))
                store.write_features("v", shard, {"cls": x[span.start : span.stop]})
        array = FeatureStore.open(folder).array("v", "cls")
        whole = array.read()
        np.testing.assert_array_equal(array[rows], whole[rows])
        if dtype == "bfloat16":
            assert np.all(np.abs(whole - x) <= np.abs(x) * 2.0**-8 + 2.0**-133)
        else:
            np.testing.assert_array_equal(whole, x.astype(dtype))
        assert store.verify() == []


keys = st.lists(st.text(max_size=8), min_size=1, max_size=30)


@settings(derandomize=True, deadline=None)
@given(keys=keys, salt=st.text(max_size=5), seed=st.integers(0, 99))
def test_a_split_depends_on_its_key_alone(keys: list[str], salt: str, seed: int) -> None:
    scheme = SplitScheme(salt=salt)
    alone = {key: scheme.assign([key])[0] for key in keys}
    shuffled = np.random.default_rng(seed).permutation(np.array(keys, dtype=object))
    assert [alone[key] for key in shuffled] == scheme.assign(shuffled).tolist()
    assert all((split == "") == (key == "") for key, split in alone.items())
    assert set(alone.values()) <= {*SPLITS, ""}


@settings(derandomize=True, deadline=None, max_examples=20)
@given(weights=st.tuples(*[st.integers(0, 9)] * 4).filter(any), salt=st.text(max_size=5))
def test_shares_are_the_fractions(weights: tuple[int, int, int, int], salt: str) -> None:
    a, b, c, d = (w / sum(weights) for w in weights)
    n = 4000
    names = SplitScheme(salt=salt, fractions=(a, b, c, d)).assign([str(i) for i in range(n)])
    for split, p in zip(SPLITS, (a, b, c, d), strict=True):
        found = int(np.sum(names == split))
        assert abs(found - n * p) <= 6 * sqrt(n * p * (1 - p))  # chance below 1e-8
