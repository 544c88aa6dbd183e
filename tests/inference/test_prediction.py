"""A prediction's records and drawing, of torch's arrays and of numpy's, which need no torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from detnet.coco.keypoints import KeypointLayout
from detnet.coco.masks import decode_masks, encode_pixels
from detnet.errors import InputError
from detnet.evaluation.results import to_results
from detnet.inference.prediction import Prediction


def test_coco_records_carry_the_data_sets_ids_and_masks() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 4:24] = True
    found = Prediction(
        boxes=torch.tensor([[4.001, 5.0, 24.0, 15.0]]),
        labels=torch.tensor([2]),
        scores=torch.tensor([0.7654321]),
        names=("dog",),
        category_ids=(123456789012,),
        size=(30, 20),
        run_lengths=[encode_pixels(mask)],
    )
    (record,) = found.to_coco(41)
    segmentation = record.pop("segmentation")
    assert record == {
        "image_id": 41,
        "category_id": 123456789012,
        "bbox": [4.0, 5.0, 20.0, 10.0],
        "score": 0.765432,
    }
    assert segmentation["size"] == [20, 30] and isinstance(segmentation["counts"], str)
    assert found.masks is not None and found.masks.dtype == torch.bool
    (evaluated,) = to_results([vars(found)], [41], [5, 123456789012])
    assert found.to_coco(41) == [evaluated]
    (painted,) = decode_masks([segmentation["counts"].encode()], 20, 30)
    assert np.array_equal(painted, mask) and np.array_equal(found.masks[0], mask)
    drawn = np.asarray(found.draw(np.zeros((20, 30, 3), dtype=np.uint8)))
    assert drawn.any()
    with pytest.raises(InputError, match="the image is 20×30"):
        found.draw(np.zeros((30, 20, 3), dtype=np.uint8))


def test_arrays_of_numpy_are_written_and_drawn_as_tensors_are() -> None:
    layout = KeypointLayout(("a", "b", "c"), ((0, 1), (1, 2)), (((0, 1),), ((1, 2),)))
    points = np.array([[[4, 5, 1], [20, 9, 1], [9, 14, 1]]], np.float32)
    drawn, records = [], []
    for form in (np.asarray, torch.from_numpy):
        found = Prediction(
            boxes=form(np.array([[4, 5, 24, 15]], np.float32)),
            labels=form(np.array([2])),
            scores=form(np.array([0.75], np.float32)),
            names=("dog",),
            category_ids=(9,),
            size=(30, 20),
            run_lengths=[encode_pixels(np.ones((20, 30), bool))],
            keypoints=form(points.copy()),
            layout=layout,
        )
        drawn.append(np.asarray(found.draw(np.zeros((20, 30, 3), np.uint8))))
        records.append(found.to_coco(1))
        assert np.array_equal(found.keypoints, points)  # drawing changes nothing
        assert type(found.masks) is type(found.boxes)
    assert np.array_equal(*drawn) and drawn[0].any()
    assert records[0] == records[1]
    assert records[0][0]["keypoints"] == [19.5, 8.5, 1.0, 8.5, 13.5, 1.0]


def test_it_needs_no_torch() -> None:
    code = "import sys, detnet.inference.prediction; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
