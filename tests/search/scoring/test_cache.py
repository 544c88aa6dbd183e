"""Images kept for candidates: in order, no more than fit, mistakes told."""

from pathlib import Path

import pytest
import torch

from detnet.errors import InputError
from detnet.search.scoring import cache
from detnet.search.scoring.cache import (
    _OBJECTS,
    CachedImages,
    ImageMemory,
    Sample,
    free_memory,
)

ROWS = [[0, 1], [2], [3, 4, 0], [5], [6]]


@pytest.mark.parametrize("threads", [0, 2])
def test_samples_come_in_order_and_no_more_are_kept_than_fit(threads: int) -> None:
    read: list[int] = []

    def sample(index: int) -> Sample:
        read.append(index)
        return torch.full((3, 4, 5), index, dtype=torch.uint8), {"boxes": torch.zeros(2, 4)}

    size = _OBJECTS + 60 + 32
    memory = ImageMemory(3 * size + 10)
    cache = CachedImages(sample, memory, threads=threads)
    assert memory.hit_rate() is None
    for rate in (1 / 8, 4 / 8, 4 / 8):  # 0 is asked for twice
        seen = [[int(image[0, 0, 0]) for image, _ in batch] for batch in cache.batches(ROWS)]
        assert seen == ROWS
        assert len(cache) == memory.images == 3 and memory.nbytes == 3 * size
        assert memory.hit_rate() == rate
    assert {index: read.count(index) for index in (1, 2)} == {1: 1, 2: 1}
    assert [read.count(index) for index in (3, 4, 5, 6)] == [3, 3, 3, 3]


def test_a_limit_of_nothing_keeps_nothing() -> None:
    cache = CachedImages(lambda index: (torch.zeros(3, 2, 2), {}), ImageMemory(0))
    assert len(list(cache.batches([[0], [0]]))) == 2
    assert len(cache) == 0


def test_an_image_that_cannot_be_read_is_said() -> None:
    def sample(index: int) -> Sample:
        raise InputError(f"image {index}: damaged")

    with pytest.raises(InputError, match="image 7: damaged"):
        list(CachedImages(sample, ImageMemory(100), threads=1).batches([[7]]))


def test_several_share_a_memory() -> None:
    memory = ImageMemory(3 * (_OBJECTS + 6))
    first, second = (
        CachedImages(lambda index: (torch.zeros(1, 2, 3, dtype=torch.uint8), {}), memory)
        for _ in range(2)
    )
    for _ in range(2):
        list(first.batches([[0, 1]]))
        list(second.batches([[0, 1]]))
    assert (len(first), len(second), memory.images) == (2, 1, 3)
    assert memory.hit_rate() == 3 / 8 and memory.hit_rate() is None


def machine(folder: Path, available: int, groups: dict[str, str]) -> int:
    (folder / "proc").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available} kB\n")
    for name, text in groups.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return free_memory(folder)


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    assert machine(tmp_path / "a", 50, {}) == 50 * 1024
    whole = {"memory.max": "max\n", "memory.current": "9\n"}
    assert machine(tmp_path / "b", 50, whole) == 50 * 1024
    # A container's files that are only cached would be given back.
    part = {"memory.max": "5000\n", "memory.current": "3000\n"}
    assert machine(tmp_path / "c", 50, part) == 2000
    part["memory.stat"] = "anon 7\ninactive_file 1500\n"
    assert machine(tmp_path / "d", 50, part) == 3500
    assert machine(tmp_path / "e", 3, part) == 3 * 1024
    old = {
        "memory/memory.limit_in_bytes": "900\n",
        "memory/memory.usage_in_bytes": "1000\n",
        "memory/memory.stat": "total_inactive_file 50\n",
    }
    assert machine(tmp_path / "f", 50, old) == 0
    assert free_memory(tmp_path / "none") > 2**28


def test_half_of_what_is_free_is_shared_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 8000)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert ImageMemory().limit == 4000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert (ImageMemory().limit, ImageMemory(7).limit) == (500, 7)
