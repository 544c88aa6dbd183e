import os

import pytest

from detnet.engine.launch import image_readers, is_main
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(2, 1, 2), (64, 8, 8), (40, 8, 5), (4, 8, 1), (16, 1, 8)]
)
def test_cores_are_shared_by_the_processes_of_the_machine(
    cores: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert image_readers(processes) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert image_readers() == expected
    assert TrainConfig.make("detnet59_faster_rcnn_fpn_2x", {}).workers == expected
    assert PretrainConfig.make("detnet59_imagenet", {}).workers == expected
    assert TrainConfig.make(None, {"workers": 0}).workers == 0


def test_the_first_process_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_main()
    for rank, main in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert is_main() == main
