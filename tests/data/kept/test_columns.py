from pathlib import Path

import numpy as np
import pytest

from detnet.data.kept.columns import (
    Columns,
    DamagedColumns,
    map_columns,
    read_facts,
    write_columns,
)

ARRAYS = {
    "boxes": np.arange(24, dtype=np.float32).reshape(6, 4),
    "crowd": np.array([True, False, True]),
    "none": np.zeros((0, 3, 2)),
    "ids": np.array([900100000007], np.int64),
    "last": np.zeros(0, np.int16),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.columns"
    write_columns(path, Columns({"names": ["a", "träge"], "odd": "\ud800"}, ARRAYS))
    return path


def test_what_was_written_is_mapped(path: Path) -> None:
    columns = map_columns(path)
    assert columns.facts == {"names": ["a", "träge"], "odd": "\ud800"} == read_facts(path)
    assert list(columns.arrays) == list(ARRAYS)
    for name, array in columns.arrays.items():
        assert array.dtype == ARRAYS[name].dtype and array.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert not array.flags.owndata and not array.flags.writeable and array.flags.aligned
    assert [one.name for one in path.parent.iterdir()] == ["a.columns"]


def test_it_outlives_its_file(path: Path) -> None:
    columns = map_columns(path)
    write_columns(path, Columns({}, {"boxes": np.zeros(2)}))
    path.unlink()
    np.testing.assert_array_equal(columns.arrays["boxes"], ARRAYS["boxes"])


def test_every_changed_byte_and_every_cut_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedColumns):
            map_columns(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedColumns):
            map_columns(path)


@pytest.mark.parametrize("content", [b"", b"detnet columns 1", b"detnet columns 1" + b"\xff" * 99])
def test_what_is_something_else_has_no_facts(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DamagedColumns, match=r"a\.columns"):
        read_facts(path)
