"""Many files: groups for batches, records that say which image is which, errors with names."""

import errno
import json
from pathlib import Path

import pytest
import torch

from detnet.inference.folder import PredictionFiles, _groups, _naming
from detnet.inference.predictor import Prediction
from detnet.inference.sources import Source


def source(name: str, *, video: bool = False) -> Source:
    return Source(Path("in") / name, Path("out") / name, video=video, asked_for=True)


def test_neighbouring_images_go_together_and_videos_alone() -> None:
    names = ["a", "b", "c", "film", "d", "other"]
    sources = [source(name, video=name in ("film", "other")) for name in names]
    groups = [[entry.path.name for entry in group] for group in _groups(sources, 2)]
    assert groups == [["a", "b"], ["c"], ["film"], ["d"], ["other"]]
    assert list(_groups([], 2)) == []


def test_records_number_images_from_one(tmp_path: Path) -> None:
    found = Prediction(
        boxes=torch.tensor([[1.0, 2.0, 4.0, 6.0]]),
        labels=torch.tensor([1]),
        scores=torch.tensor([0.5]),
        names=("cat",),
        category_ids=(9,),
        size=(30, 20),
    )
    files = PredictionFiles()
    files.add(found, source("a.jpg"), Path("out"))
    files.add(found, source("film.mp4", video=True), Path("out"), frame=0, time_s=0.0)
    files.write(tmp_path)
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert [record["image_id"] for record in results] == [1, 2]
    assert results[0]["bbox"] == [1.0, 2.0, 3.0, 4.0] and results[0]["category_id"] == 9
    images = json.loads((tmp_path / "images.json").read_text())
    assert images[0] == {
        "id": 1,
        "file_name": "a.jpg",
        "path": str(Path("in") / "a.jpg"),
        "drawn": "a.jpg",
        "width": 30,
        "height": 20,
    }
    assert images[1]["frame"] == 0 and images[1]["id"] == 2
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_full_disk_names_the_file() -> None:
    with pytest.raises(OSError, match="No space left") as caught, _naming(Path("out/a.jpg")):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(Path("out/a.jpg"))
