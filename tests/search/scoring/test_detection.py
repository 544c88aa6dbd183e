import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detnet.coco.annotations import Annotations
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.detectors.images import ImageOptions, Resize, make_transform
from detnet.search.scoring.detection import DetectionEvaluator, stratified
from detnet.search.scoring.evaluator import ScoringBudget


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    """60 images: the first ten have the rare class, too, and image i has i % 6 common objects."""
    records = []
    for image in range(60):
        kinds = [1] * (image % 6) + ([2] if image < 10 else [])
        records += [{"image_id": image, "category_id": kind} for kind in kinds]
    for number, record in enumerate(records):
        record |= {"id": number + 1, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0}
    raw = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(60)
        ],
        "annotations": records,
        "categories": [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}],
    }
    path = tmp_path / "search.json"
    path.write_text(json.dumps(raw))
    return load_annotations(Split("search", path, tmp_path))[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_subset_stands_for_all(annotations: Annotations, seed: int) -> None:
    chosen = stratified(annotations, 12, np.random.default_rng(seed))
    assert chosen == sorted(set(chosen)) and len(chosen) == 12
    assert sum(image < 10 for image in chosen) == 2
    numbers = np.diff(annotations.offsets)
    assert abs(numbers[chosen].mean() - numbers.mean()) < 0.5


def test_a_subset_goes_by_the_draws(annotations: Annotations) -> None:
    one, same, other = (stratified(annotations, 20, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other
    assert stratified(annotations, 60, np.random.default_rng(0)) == list(range(60))
    for count in (1, 31, 59):
        chosen = stratified(annotations, count, np.random.default_rng(0))
        assert len(set(chosen)) == count and max(chosen) < 60


class Whole(nn.Module):
    """Finds one object in every image, which is all of it."""

    def __init__(self, resize: Resize) -> None:
        super().__init__()
        self.transform = make_transform(ImageOptions(32, 64), resize)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        sizes = self.transform(images)[0].image_sizes
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, width, height]]),
                "labels": torch.tensor([1]),
                "scores": torch.tensor([0.9]),
            }
            for height, width in sizes
        ]


@pytest.mark.parametrize("resize", ["aspect", "square"])
def test_boxes_come_back_to_the_image_s_own_size(tmp_path: Path, resize: Resize) -> None:
    Image.new("RGB", (120, 60)).save(tmp_path / "wide.png")
    raw = {
        "images": [{"id": 1, "file_name": "wide.png", "width": 120, "height": 60}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 120, 60], "area": 7200}
            | {"iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path = tmp_path / "search.json"
    path.write_text(json.dumps(raw))
    found, _ = load_annotations(Split("search", path, tmp_path))
    evaluator = DetectionEvaluator(Whole(resize), found, found, device=torch.device("cpu"))
    assert evaluator.score(evaluator.model, [[0]], lambda: None) == pytest.approx(1.0)


class Normed(nn.Module):
    """A batch norm over the images themselves, which it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen: list[Tensor] = []

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
        self.seen += images
        self.norm(torch.stack(images).float())


def test_recalibration_goes_by_the_way_s_momentum_and_mirrors_as_told(tmp_path: Path) -> None:
    """Two images of 40 and 200, the second with a dark left half."""
    pixels = np.full((2, 32, 64, 3), 40, np.uint8)
    pixels[1, :, 32:] = 200
    records = []
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        records.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 32})
    box = {"category_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0}
    raw = {
        "images": records,
        "annotations": [{"id": n + 1, "image_id": n, **box} for n in range(2)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(raw))
    found, _ = load_annotations(Split("train", path, tmp_path))
    evaluator = DetectionEvaluator(Whole("aspect"), found, found, device=torch.device("cpu"))
    for momentum, mean in ((None, (40 + 120) / 2), (0.1, 0.9 * 0.1 * 40 + 0.1 * 120)):
        candidate = Normed()
        evaluator.recalibrate(candidate, [[(0, False)], [(1, True)]], ScoringBudget(2, 1, momentum))
        torch.testing.assert_close(candidate.norm.running_mean, torch.full((3,), mean))
        assert candidate.seen[1][0, 5, :32].unique().tolist() == [200]
        assert not candidate.norm.training
