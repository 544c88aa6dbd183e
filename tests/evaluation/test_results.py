"""Predictions become COCO results, which score as themselves."""

import json
import re
from dataclasses import replace
from pathlib import Path

import hotcoco
import numpy as np
import pytest
import torch

from detnet.coco.ground_truth import GroundTruth
from detnet.errors import InputError
from detnet.evaluation import results
from detnet.evaluation.coco import score
from detnet.evaluation.detections import read_detections
from detnet.evaluation.results import (
    Results,
    encode_masks,
    join_results,
    to_results,
    write_results,
)
from detnet.files import write_text
from tests.evaluation.columns import keypoint_case, random_case


def test_records() -> None:
    prediction = {
        "boxes": torch.tensor([[1.0, 2.0, 11.004, 22.0]], requires_grad=True),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.8125], dtype=torch.bfloat16),
    }
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    records = list(to_results([nothing, prediction], [7, 10**11], np.array([5, 90])))
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
    records = list(to_results([prediction], [4], [3, 8]))
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
    with pytest.raises(TypeError):
        write_text(path, [2])  # type: ignore[arg-type]  # breaks off while it is written
    assert path.read_text() == "[1]"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "gone" / "results.json", "[]")
    assert caught.value.filename == str(tmp_path / "gone" / "results.json")


def found_in(seed: int, *, masks: bool = True, keypoints: bool = False) -> Results:
    """Objects of an image of 30 by 50; every third image has none."""
    draws = np.random.default_rng(seed)
    count = int(draws.integers(1, 9)) * (seed % 3 > 0)
    corners = draws.random((count, 2)) * [40, 20]
    found = {
        "boxes": np.concatenate([corners, corners + draws.random((count, 2)) * 9], 1),
        "labels": draws.integers(1, 4, count),
        "scores": draws.random(count),
    }
    if masks:
        found["masks"] = draws.random((count, 30, 50)) > 0.9
    if keypoints:
        found["keypoints"] = draws.random((count, 3, 3)) * 30
    own = [[2, 0], [], [1]] if keypoints else None
    return to_results([found], [100 - seed], [5, 90, 7], own)


@pytest.mark.parametrize("keypoints", [False, True])
def test_columns_are_what_their_records_say(
    keypoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [found_in(seed, masks=not keypoints, keypoints=keypoints) for seed in range(8)]
    whole = join_results(parts)
    records = [record for part in parts for record in part]
    assert list(whole) == records and len(whole) == len(records) > 15
    assert {*records[0]} - {"keypoints"} == {
        *("image_id", "category_id", "bbox", "score"),
        *(() if keypoints else ("segmentation",)),
    }
    lengths = [len(record.get("keypoints", ())) for record in records]
    assert lengths == [{5: 6, 90: 0, 7: 3}[r["category_id"]] * keypoints for r in records]
    order = np.argsort(whole.images, kind="stable")
    assert list(whole.pick(order)) == sorted(records, key=lambda record: record["image_id"])
    monkeypatch.setattr(results, "_AT_ONCE", 4)
    write_results(tmp_path / "a.json", whole)
    assert (tmp_path / "a.json").read_text() == json.dumps(records, separators=(",", ":"))
    write_results(tmp_path / "a.json", join_results(parts[:1]))
    assert (tmp_path / "a.json").read_text() == "[]"


def test_each_kind_is_given_what_it_scores() -> None:
    masks = join_results(found_in(seed) for seed in range(4))
    assert masks.of_kind("bbox") is masks
    assert list(masks.of_kind("segm")) == [
        {name: value for name, value in record.items() if name != "bbox"} for record in masks
    ]
    points = join_results(found_in(seed, masks=False, keypoints=True) for seed in range(9))
    assert list(points.of_kind("keypoints")) == [
        {name: value for name, value in record.items() if name != "bbox"}
        for record in points
        if "keypoints" in record
    ]


def of_columns(iou_type: str, seed: int) -> tuple[GroundTruth, Results]:
    """Results of a made-up case, as `to_results` gives them."""
    make = keypoint_case if iou_type == "keypoints" else random_case
    truth, found, _ = make(4 * seed)
    counts = None if found.keypoints is None else np.full(len(found.images), 0)
    if counts is not None and truth.keypoint_counts is not None:
        counts = truth.keypoint_counts[found.categories]
    masks = [{**mask, "counts": mask["counts"].decode()} for mask in found.masks or ()]
    return truth, Results(
        truth.image_ids[found.images],
        truth.category_ids[found.categories],
        found.scores,
        found.boxes,
        masks if found.masks is not None else None,
        found.keypoints,
        counts,
    )


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_columns_are_read_as_their_records(iou_type: str) -> None:
    seen = 0
    for seed in range(1, 12):
        truth, given = of_columns("segm" if iou_type == "bbox" else iou_type, seed)
        for found in {id(each): each for each in (given, given.of_kind(iou_type))}.values():
            one, other = (
                read_detections(results, truth, iou_type=iou_type)
                for results in (found, list(found))
            )
            for name in ("images", "categories", "boxes", "areas", "scores"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
                assert getattr(one, name).dtype == getattr(other, name).dtype
            if iou_type == "keypoints":
                np.testing.assert_array_equal(one.keypoints, other.keypoints)
            if iou_type == "segm":
                assert [mask["size"] for mask in one.masks] == [m["size"] for m in other.masks]
            seen += len(found)
    assert seen > 100


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("images", 10**6, "image_id 1000000 is not among the ground truth's images"),
        ("categories", -1, "category_id -1 is not among the ground truth's categories"),
        ("scores", np.nan, '"score" must be a finite number, found nan'),
        ("boxes", np.inf, '"bbox" must be 4 finite numbers'),
        ("boxes", 1e10, "is too large a number"),
    ],
)
def test_columns_that_cannot_be_scored_are_named_as_records_are(
    column: str, value: float, message: str
) -> None:
    truth, found = of_columns("segm", 1)
    getattr(found, column)[3] = value
    with pytest.raises(InputError, match=r"results: results\[3\]: .*" + re.escape(message)):
        read_detections(found, truth)


def test_columns_without_what_is_scored_say_what_they_hold() -> None:
    truth, found = of_columns("segm", 1)
    with pytest.raises(InputError, match="the results hold boxes, but no masks"):
        read_detections(replace(found, masks=None), truth, iou_type="segm")
    masks = [{**mask, "size": [64, 48]} for mask in found.masks or ()]
    with pytest.raises(InputError, match=r"results\[0\]: .*RLE size"):
        read_detections(replace(found, masks=masks), truth, iou_type="segm")
