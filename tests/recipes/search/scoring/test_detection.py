import json
from pathlib import Path

import numpy as np
import pytest

from detnet.data.annotations import Annotations
from detnet.data.coco import load_annotations
from detnet.data.folders import Split
from detnet.recipes.search.scoring.detection import stratified


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
