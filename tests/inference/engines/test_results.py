"""An engine over a data set: which images run together, and in which order results come out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnet.coco.annotations import Annotations
from detnet.data.folders import find_split
from detnet.inference.engines.exported import ExportedEngine, Outputs
from detnet.inference.engines.predictor import open_engine
from detnet.inference.engines.results import engine_results
from detnet.training.detection.evaluate import load_for
from tests.inference.engines.tiny import CATEGORIES, tiny_export

SIZES = ((80, 60), (60, 80), (80, 60), (60, 80), (80, 60), (60, 80), (80, 60))


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Annotations:
    """Pictures of two sizes in turns, each brighter than the one before."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    records = []
    for number, (width, height) in enumerate(SIZES):
        pixels = np.full((height, width, 3), 130 + 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "val" / f"{number}.png")
        sides = {"width": width, "height": height}
        records.append({"id": 20 - number, "file_name": f"{number}.png", **sides})
    content = {"images": records, "annotations": [], "categories": list(CATEGORIES)}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    split = find_split(folder, "val")
    return load_for(split, list(CATEGORIES), masks=False, categories_of="m")[1]


@pytest.mark.parametrize("chosen", [None, (6, 5, 3, 0), ()])
def test_images_of_one_size_run_together(
    chosen: tuple[int, ...] | None,
    annotations: Annotations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, three = (open_engine(tiny_export(tmp_path / str(batch), batch=batch)) for batch in (1, 3))
    given: list[tuple[int, ...]] = []
    run_network = type(three).run_network

    def counted(engine: ExportedEngine, images: np.ndarray) -> Outputs:
        given.append(images.shape)
        return run_network(engine, images)

    monkeypatch.setattr(type(three), "run_network", counted)
    how = {"score_threshold": 0.3, "chosen": chosen}
    expected = engine_results(one, annotations, **how)
    assert len(given) == len(SIZES if chosen is None else chosen)
    given.clear()
    found = engine_results(three, annotations, **how)
    calls = {None: 3, (6, 5, 3, 0): 2, (): 0}[chosen]  # 4 + 3 images by threes; 2 + 2; none
    assert len(given) == calls and [shape[0] for shape in given] == [3] * calls
    places = range(len(SIZES)) if chosen is None else chosen
    by_image = [int(annotations.image_ids[place]) for place in places]
    assert list(dict.fromkeys(found.images.tolist())) == by_image
    for column in ("images", "categories", "scores", "boxes"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
