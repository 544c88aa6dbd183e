"""Predictions become COCO results, which score as themselves."""

import json
from pathlib import Path

import hotcoco
import numpy as np
import pytest
import torch

from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.evaluation.results import encode_masks, to_results, write_results
from detnet.files import write_text


def test_records() -> None:
    prediction = {
        "boxes": torch.tensor([[1.0, 2.0, 11.004, 22.0]], requires_grad=True),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.8125], dtype=torch.bfloat16),
    }
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    records = to_results([nothing, prediction], [7, 10**11], np.array([5, 90]))
    assert records == [
        {"image_id": 10**11, "category_id": 90, "bbox": [1, 2, 10, 20], "score": 0.8125}
    ]
    assert type(records[0]["category_id"]) is type(records[0]["image_id"]) is int


def test_masks_of_all_kinds_are_text() -> None:
    inside = np.zeros((2, 30, 50), bool)
    inside[0, 5:10, 20:45] = True
    stacks = [inside, torch.tensor(inside)[:, None], inside * 0.6, torch.tensor(inside).byte()]
    for masks in stacks:
        encoded = encode_masks(masks)
        json.dumps(encoded)
        assert encoded[0]["size"] == [30, 50]
        np.testing.assert_array_equal(hotcoco.mask.decode(encoded).transpose(2, 0, 1), inside)
    assert encode_masks(np.zeros((0, 30, 50))) == []


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_round_trip_scores_perfectly(iou_type: str, tmp_path: Path) -> None:
    masks = np.zeros((2, 30, 50), bool)
    masks[0, 5:10, 20:45] = masks[1, 11:28, 3:9] = True
    boxes = np.array([[20, 5, 45, 10], [3, 11, 9, 28]])
    prediction = {"boxes": boxes, "labels": [1, 2], "scores": [0.9, 0.7], "masks": masks}
    records = to_results([prediction], [4], [3, 8])
    write_results(tmp_path / "dt.json", records)
    truth = {
        "images": [{"id": 4, "height": 30, "width": 50}],
        "categories": [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}],
        "annotations": [{k: v for k, v in record.items() if k != "score"} for record in records],
    }
    scores = score(truth, tmp_path / "dt.json", iou_type=iou_type)
    assert scores["AP"] == pytest.approx(1) and scores["AR100"] == 1


def test_what_cannot_be_written(tmp_path: Path) -> None:
    one = {"boxes": np.ones((1, 4)), "labels": [3], "scores": [0.5]}
    with pytest.raises(ValueError, match="image 4: label 3, expected 1 to 2"):
        to_results([one], [4], [1, 2])
    with pytest.raises(ValueError, match="shorter"):
        to_results([one], [], [1, 2, 3])
    records = to_results([one, one | {"scores": [np.nan]}], [4, 5], [1, 2, 3])
    with pytest.raises(InputError, match=r"dt.json: results\[1\] of image 5 holds NaN"):
        write_results(tmp_path / "dt.json", records)
    assert not (tmp_path / "dt.json").exists()


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "[]")
    write_text(path, "[1]")
    assert path.read_text() == "[1]"
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "[2, \ud800]")  # breaks off while it is written
    assert path.read_text() == "[1]"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "gone" / "results.json", "[]")
    assert caught.value.filename == str(tmp_path / "gone" / "results.json")
