"""Views of an image and their merging, on every detector; soft suppression at prediction."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from detnet.coco.masks import RunLengths, decode_masks
from detnet.detectors import DETECTORS, create
from detnet.errors import InputError
from detnet.inference.augmentation import (
    CANDIDATES,
    PredictionOptions,
    detect,
    replacing_suppression,
)
from detnet.inference.fuse import fuse
from detnet.inference.predictor import Predictor
from detnet.inference.soft_nms import Decay, soft_nms

FLIP = PredictionOptions(tta_flip=True)


class Stub(nn.Module):
    """Finds the one bright pixel's box, and says at which size it was asked to look."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = SimpleNamespace(min_size=(60,), max_size=90)
        self.targets = ("boxes",)
        self.post_processor = SimpleNamespace(nms_thresh=0.5, detections_per_img=100)
        self.asked: list[tuple[int, int]] = []

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.asked.append((self.transform.min_size[-1], self.transform.max_size))
        found = []
        for image in images:
            y, x = divmod(int(image[0].argmax()), image.shape[-1])
            # One is found in every view, the other near the image's left side in each.
            boxes = torch.tensor([[x - 3.0, y - 2.0, x + 5.0, y + 3.0], [1.0, 0.0, 4.0, 9.0]])
            scores = torch.tensor([0.5 + 0.001 * self.asked[-1][0], 0.3])
            found.append({"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 2])})
        return found


def bright(x: int, y: int, width: int, height: int) -> Tensor:
    image = torch.zeros(3, height, width)
    image[:, y, x] = 1
    return image


def test_views_come_back_to_the_image_s_own_pixels() -> None:
    stub = Stub()
    images = [bright(20, 10, 50, 40), bright(5, 30, 30, 60)]
    options = PredictionOptions(tta_scales=(40, 80), tta_flip=True)
    first, second = detect(stub, images, options)
    assert stub.asked == [(40, 60), (40, 60), (80, 120), (80, 120)]
    assert (stub.transform.min_size, stub.transform.max_size) == ((60,), 90)
    # Mirrored, pixel 20 of 50 is 29: the box 26 … 34 there is 16 … 24 here.
    assert first["boxes"].tolist() == [
        [17, 8, 25, 13],  # the larger view is surer; 16 … 24 overlaps it by 7/9 and is suppressed
        [1, 0, 4, 9],
        [46, 0, 49, 9],
    ]
    assert first["scores"].tolist() == pytest.approx([0.58, 0.3, 0.3])
    assert first["labels"].tolist() == [1, 2, 2]
    assert second["boxes"][0].tolist() == [2, 28, 10, 33]

    stub.post_processor.nms_thresh = 0.8
    both, _ = detect(stub, images, options)
    assert [16, 8, 24, 13] in both["boxes"].tolist()
    stub.post_processor.detections_per_img = 1
    assert [len(each["boxes"]) for each in detect(stub, images, options)] == [1, 1]


def pictures() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(3, *size, generator=generator) for size in ((96, 130), (80, 60))]


def pixels_of(masks: list[RunLengths]) -> Tensor:
    height, width = masks[0]["size"]
    painted = decode_masks([mask["counts"].encode() for mask in masks], height, width)
    return torch.from_numpy(painted)[:, None] == 1


@torch.no_grad()
def test_a_view_of_another_size_is_one_for_squares_too() -> None:
    model = create("yolo", num_classes=4, width=0.125, min_size=128, resize="square").eval()
    seen: list[tuple[int, ...]] = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    detect(model, pictures(), PredictionOptions(tta_scales=(64, 128)))
    assert seen == [(64, 64), (128, 128)]


@pytest.mark.parametrize("detector", list(DETECTORS))
@torch.no_grad()
def test_every_detector(detector: str) -> None:
    """Nothing asked for: the same bits. One view at the own size: the same objects. Mirrored views
    and sizes: the objects of all views, suppressed together."""
    model = made(detector)
    model.post_processor.detections_per_img = 30
    images = pictures()
    plain = model(images)
    assert min(len(each["boxes"]) for each in plain) > 1
    for own, found in zip(plain, detect(model, images, PredictionOptions()), strict=True):
        if "masks" in own:
            own["masks"], found["masks"] = own["masks"] > 0.5, pixels_of(found["masks"])
        assert own.keys() == found.keys()
        assert all(torch.equal(own[key], found[key]) for key in own)

    (found, _) = detect(model, images, PredictionOptions(tta_scales=(96,)))
    assert found.keys() == plain[0].keys()
    torch.testing.assert_close(found["boxes"], plain[0]["boxes"])

    if detector == "keypoint_rcnn_fpn":
        with pytest.raises(InputError, match="names of the keypoints"):
            detect(model, images, FLIP)
        options = PredictionOptions(tta_scales=(64, 96))
    else:
        options = PredictionOptions(tta_scales=(64, 96), tta_flip=True)
    for image, found in zip(images, detect(model, images, options), strict=True):
        assert 1 < len(found["boxes"]) <= 30
        height, width = image.shape[-2:]
        limit = torch.tensor([width, height, width, height]) + 1e-3
        assert (found["boxes"] >= -1e-3).all() and (found["boxes"] <= limit).all()
        keep = batched_nms(
            found["boxes"],
            found["scores"],
            found["labels"],
            model.post_processor.nms_thresh + 1e-6,
        )
        assert len(keep) == len(found["boxes"])
        if "masks" in found:
            assert pixels_of(found["masks"]).shape == (len(keep), 1, height, width)

    for decay in ("linear", "gaussian"):
        soft = detect(model, images, PredictionOptions(soft_nms=decay))
        for own, found in zip(plain, soft, strict=True):
            assert found.keys() == own.keys()
            assert (found["scores"][:-1] >= found["scores"][1:]).all()
            assert found["scores"][0] == pytest.approx(own["scores"][0].item())
            assert 0 < len(found["boxes"]) <= 30


@pytest.mark.parametrize(
    ("decay", "overlap"), [("gaussian", 0.5), ("linear", 0.2), ("linear", 0.7)]
)
@torch.no_grad()
def test_soft_suppression_sees_every_candidate_of_all_views(decay: Decay, overlap: float) -> None:
    """The linear decay begins at the detector's own overlap."""
    model = made("retinanet")
    model.nms_thresh = overlap
    (image, _) = pictures()
    (found,) = detect(model, [image], PredictionOptions(decay, (96,), True))
    (alone,) = detect(model, [image], PredictionOptions(decay))
    model.nms_thresh, model.detections_per_img = 2.0, 10**9
    (plain,), (mirrored,) = model([image]), model([image.flip(-1)])
    keep, lowered = soft_nms(
        plain["boxes"], plain["scores"], plain["labels"],
        decay=decay, iou_threshold=overlap, max_detections=100,
    )  # fmt: skip
    torch.testing.assert_close(alone["boxes"], plain["boxes"][keep])
    torch.testing.assert_close(alone["scores"], lowered)
    mirrored["boxes"][:, [0, 2]] = 130 - mirrored["boxes"][:, [2, 0]]
    boxes, scores, labels = (
        torch.cat([plain[key][:CANDIDATES], mirrored[key][:CANDIDATES]])
        for key in ("boxes", "scores", "labels")
    )
    keep, lowered = soft_nms(
        boxes, scores, labels, decay=decay, iou_threshold=overlap, max_detections=100
    )
    torch.testing.assert_close(found["boxes"], boxes[keep])
    torch.testing.assert_close(found["scores"], lowered)


@torch.no_grad()
def test_mirrored_masks_and_keypoints_lie_on_their_objects() -> None:
    """On an image that is its own mirror image, mirroring an object's view changes its side."""
    half = pictures()[0][:, :, :60]
    image = torch.cat([half, half.flip(-1)], 2)
    model = made("mask_rcnn_fpn")
    model.post_processor.nms_thresh = 1.5  # both sides' objects stay
    (plain,), (found,) = model([image]), detect(model, [image], FLIP)
    assert len(found["boxes"]) == 100 or len(found["boxes"]) == 2 * len(plain["boxes"])
    for box, mask in zip(found["boxes"].tolist(), pixels_of(found["masks"])[:, 0], strict=True):
        rows, columns = mask.nonzero().unbind(1)
        if len(rows):
            assert columns.min() >= box[0] - 2 and columns.max() <= box[2] + 2
            assert rows.min() >= box[1] - 2 and rows.max() <= box[3] + 2

    model = made("keypoint_rcnn_fpn")
    names = ["nose", "left_eye", "right_eye", *(f"point {i}" for i in range(14))]
    names[3:] = [f"left_{i}" if i % 2 else f"right_{i - 1}" for i in range(1, 15)]
    model.info.categories = [
        {"id": i, "name": f"kind {i}", "keypoints": names if i == 1 else []} for i in (1, 2, 3)
    ]
    (found,) = detect(model, [image], FLIP)
    inside = found["keypoints"][..., :2]
    assert (inside >= found["boxes"][:, None, :2] - 2).all()
    assert (inside <= found["boxes"][:, None, 2:] + 2).all()


class Faces(nn.Module):
    """Finds a face at the bright pixel, its left eye 2 pixels to the right, its right eye 1 to the
    left, and is surer of each in the second image it is given."""

    NAMES = ("left_eye", "nose", "right_eye")

    def __init__(self) -> None:
        super().__init__()
        self.transform = SimpleNamespace(min_size=(60,), max_size=90)
        self.targets = ("boxes", "keypoints")
        # Both views' faces stay.
        self.post_processor = SimpleNamespace(nms_thresh=1.5, detections_per_img=100)
        face = {"id": 4, "name": "face", "keypoints": [*self.NAMES], "skeleton": [[1, 2]]}
        self.info = SimpleNamespace(categories=[face])
        self.calls = 0

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.calls += 1
        (image,) = images
        y, x = divmod(int(image[0].argmax()), image.shape[-1])
        points = [[x + 2.0, y - 1.0, 1.0], [float(x), float(y), 1.0], [x - 1.0, y - 2.0, 0.0]]
        return [
            {
                "boxes": torch.tensor([[x - 3.0, y - 4.0, x + 5.0, y + 3.0]]),
                "scores": torch.tensor([1 - 0.1 * self.calls]),
                "labels": torch.tensor([1]),
                "keypoints": torch.tensor([points]),
                "keypoints_scores": torch.tensor([[3.0, 2.0, 1.0]]) + 10 * self.calls,
            }
        ]


def test_a_mirrored_left_eye_is_a_right_one() -> None:
    (found,) = detect(Faces(), [bright(20, 10, 50, 40)], FLIP)
    # Pixel 20 of 50 is 29 in the mirror; what is called the left eye there lies at 31, here at 19.
    assert found["boxes"].tolist() == [[17, 6, 25, 13], [16, 6, 24, 13]]
    own, mirrored = (
        dict(zip(Faces.NAMES, each, strict=True)) for each in found["keypoints"].tolist()
    )
    assert own == {"left_eye": [22, 9, 1], "nose": [20, 10, 1], "right_eye": [19, 8, 0]}
    assert mirrored == {"left_eye": [22, 8, 0], "nose": [21, 10, 1], "right_eye": [19, 9, 1]}
    assert found["keypoints_scores"].tolist() == [[13, 12, 11], [21, 22, 23]]


def test_soft_suppression_of_views_is_for_boxes() -> None:
    options = PredictionOptions("linear", (64,), False)
    for detector, what in (("mask_rcnn_fpn", "masks"), ("keypoint_rcnn_fpn", "keypoints")):
        with pytest.raises(InputError, match=f"finds {what}: give either"):
            detect(made(detector), pictures(), options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"soft_nms": "cosine"}, "'linear' or 'gaussian', got 'cosine'"),
        ({"tta_scales": (0,)}, "positive"),
        ({"tta_scales": (640, 640)}, "twice"),
    ],
)
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PredictionOptions(**values)


def test_names() -> None:
    assert PredictionOptions().name == ""
    assert PredictionOptions("linear", (640, 800), True).name == "soft-linear+scales-640-800+flip"
    assert FLIP.name == "flip"


def test_the_predictor_takes_them() -> None:
    model = made("retinanet")
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    predictor = Predictor(model, score_threshold=0.0)
    with torch.inference_mode():
        (expected,) = fuse(model)([torch.from_numpy(image).permute(2, 0, 1)])
    plain = predictor.predict(image)
    assert torch.equal(plain.boxes, expected["boxes"])
    assert torch.equal(plain.scores, expected["scores"])
    soft = Predictor(model, score_threshold=0.0, options=PredictionOptions("gaussian"))
    found = soft.predict(image)
    assert not torch.equal(found.scores, plain.scores)
    assert torch.equal(predictor.predict(image, options=soft.options).scores, found.scores)
    assert torch.equal(predictor.predict(image).scores, plain.scores)
    middle = float(found.scores[: len(found) // 2].min())
    soft.score_threshold = middle
    fewer = soft.predict(image).scores
    assert 0 < len(fewer) < len(found) and (fewer >= middle).all()
    model.info.categories = [{"id": 10 * at, "name": f"kind {at}"} for at in (1, 2, 3)]
    named = Predictor(model, score_threshold=middle, options=soft.options).predict(image)
    assert len(named) == len(named.labels) == len(fewer)
    assert named.names == tuple(f"kind {label}" for label in named.labels.tolist())
    assert named.category_ids == tuple(10 * label for label in named.labels.tolist())


SMALL = {"width": 0.125, "min_size": 96, "max_size": 160, "score_threshold": 0.0}


def made(detector: str) -> nn.Module:
    """A detector with random weights, whose norms have seen an image: else features explode."""
    torch.manual_seed(0)
    one_stage = detector in ("retinanet", "fcos", "ssd", "yolo")
    few = {} if one_stage else {"post_nms_test": 60}
    model = create(detector, backbone="detnet59", num_classes=4, **SMALL, **few).eval()
    norms = [
        layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)
    ]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, 96, 128))
    return model.eval()


@pytest.mark.parametrize("detector", list(DETECTORS))
def test_takes_the_place_of_every_detector_s_own(detector: str) -> None:
    """All candidates come, overlapping ones too, the choice goes out, and the detector is as
    before."""
    model = made(detector)
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 60)]
    seen: list[Tensor] = []

    def choose(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(boxes)
        best, index = scores.topk(3)
        return index, best / 2

    with torch.no_grad():
        before = model(images)
        settings = model.post_processor.nms_thresh, model.post_processor.detections_per_img
        with replacing_suppression(model, choose):
            found = model(images)
        after = model(images)
    assert (model.post_processor.nms_thresh, model.post_processor.detections_per_img) == settings
    assert len(seen) == 2
    for own, few, again, boxes in zip(before, found, after, seen, strict=True):
        assert len(boxes) > len(own["boxes"])
        assert all(torch.equal(own[key], again[key]) for key in own)
        assert own.keys() == few.keys() and {len(value) for value in few.values()} == {3}
        assert few["scores"][0] == pytest.approx(own["scores"][0].item() / 2)
