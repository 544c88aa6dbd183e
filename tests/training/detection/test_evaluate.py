import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.data.folders import Split, find_split
from detnet.data.reading import load_annotations
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.evaluate import evaluate_file, evaluate_model, place_of_scores
from detnet.training.settings import write_config

ALONE = Process(0, 1, torch.device("cpu"))


def detector(name: str = "faster_rcnn_fpn") -> torch.nn.Module:
    torch.manual_seed(0)
    options = {"pre_nms_test": 100, "post_nms_test": 20} if name != "retinanet" else {}
    threshold = {"score_threshold": 0.0}
    return create(
        name, num_classes=4, width=0.125, min_size=96, max_size=128, **options, **threshold
    )


def test_detections_are_in_the_images_own_pixels(scenes: Path) -> None:
    annotations, _ = load_annotations(find_split(scenes, "val"))
    model = detector().eval()
    scores = evaluate_model(model, annotations, process=ALONE, autocast=None, workers=0)
    image = annotations.image_ids[0]
    found = [record for record in scores.results if record["image_id"] == image]
    from detnet.data.images import read_image

    with torch.no_grad():
        direct = model([read_image(annotations.image_path(0))])[0]
    assert len(found) == len(direct["boxes"]) > 0
    boxes = torch.tensor([record["bbox"] for record in found])
    torch.testing.assert_close(boxes[:, :2], direct["boxes"][:, :2], atol=0.02, rtol=0)
    assert (boxes[:, 0] + boxes[:, 2]).max() > 96  # 160 wide, though the network saw 128


def test_batch_size_and_processes_do_not_matter(scenes: Path) -> None:
    annotations, _ = load_annotations(find_split(scenes, "train"))
    model = detector().eval()
    one, four = (
        evaluate_model(model, annotations, process=ALONE, autocast=None, workers=0, batch_size=size)
        for size in (1, 4)
    )
    assert one.bbox.headline["AP"] == pytest.approx(four.bbox.headline["AP"], abs=1e-6)
    assert len(one.results) == len(four.results)


def test_sigmas_without_keypoints_are_refused_before_the_work(scenes: Path) -> None:
    annotations, _ = load_annotations(find_split(scenes, "val"))

    def track(batches: Any, total: int) -> Any:
        raise AssertionError("nothing is to be detected")

    with pytest.raises(InputError, match="sigmas are for keypoints, which this detector does not"):
        evaluate_model(
            detector(), annotations, process=ALONE, autocast=None, workers=0,
            measures={"sigmas": (0.1,)}, track=track,
        )  # fmt: skip


def test_masks_are_scored_too(scenes: Path, tmp_path: Path) -> None:
    model = detector("mask_rcnn_fpn")
    model.info.categories = [{"id": i + 1, "name": n} for i, n in enumerate(_names(scenes))]
    save_model(tmp_path / "m.safetensors", model)
    scores = evaluate_file(
        tmp_path / "m.safetensors",
        find_split(scenes, "val"),
        process=ALONE,
        autocast=None,
        workers=0,
        output=tmp_path / "out",
    )
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["iou_type"] == "bbox" and written["segm"]["iou_type"] == "segm"
    assert scores.headline["segm_AP"] is not None
    record = json.loads((tmp_path / "out" / "results.json").read_text())[0]
    assert record["segmentation"]["size"] == [120, 160]


def test_other_data_does_not_replace_a_runs_own_scores(scenes: Path, tmp_path: Path) -> None:
    from detnet.training.detection.config import TrainConfig
    from detnet.training.settings import write_config

    run = tmp_path / "run"
    run.mkdir()
    model = detector()
    model.info.categories = [{"id": i + 1, "name": n} for i, n in enumerate(_names(scenes))]
    save_model(run / "best.safetensors", model)
    write_config(TrainConfig.make(None, {"data": str(scenes)}), run / "config.yaml")
    for split in ("val", "train"):
        evaluate_file(run, find_split(scenes, split), process=ALONE, autocast=None, workers=0)
    assert (run / "evaluation" / "scores.json").exists()
    assert (run / "evaluation" / f"{scenes.name}-train" / "scores.json").exists()
    images = find_split(scenes, "val").images
    other = run / "image_info_test-dev2017.json"
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    other.write_text(json.dumps(truth | {"annotations": []}))
    scores = evaluate_file(
        run, find_split(other, "val", images=images), process=ALONE, autocast=None, workers=0
    )
    assert scores.bbox.headline["AP"] is None and "no annotations" in scores.bbox.notes[0]
    assert (run / "evaluation" / "run-image_info_test-dev2017" / "results.json").exists()
    own = json.loads((run / "evaluation" / "results.json").read_text())
    assert {record["image_id"] for record in own} <= {1, 2, 3}


def _names(scenes: Path) -> list[str]:
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    return [category["name"] for category in truth["categories"]]


def test_a_run_keeps_its_own_splits_scores_at_the_top(
    scenes: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    run, own = tmp_path / "run", tmp_path / "run" / "evaluation"
    run.mkdir()
    write_config(tiny, run / "config.yaml")
    assert place_of_scores(run, find_split(scenes, "val")) == own
    assert place_of_scores(run, find_split(scenes, "train")) == own / f"{scenes.name}-train"
    # The same file by another way is the same split.
    annotations = scenes / "annotations" / ".." / "annotations" / "instances_val.json"
    assert place_of_scores(run, Split("test", annotations, scenes)) == own
    for changes in ({"val_split": "none"}, {"data": "gone"}, {"val_annotations": "gone.json"}):
        write_config(replace(tiny, **changes), run / "config.yaml")
        assert place_of_scores(run, find_split(scenes, "val")) == own / f"{scenes.name}-val"


@pytest.mark.parametrize(
    ("name", "file", "folder"),
    [
        ("val", "beans/annotations/instances_val2017.json", "beans-val"),
        ("test", "beans/annotations/image_info_test-dev2017.json", "beans-test"),
        ("val", "beans/annotations/again.json", "beans-again"),
        ("val", "beans/valid/_annotations.coco.json", "beans-val"),
        ("test", "beans/test/_annotations.coco.json", "beans-test"),
        ("val", "beans/mine.json", "beans-mine"),
    ],
)
def test_other_data_get_a_folder_by_their_name(
    tmp_path: Path, name: str, file: str, folder: str
) -> None:
    split = Split(name, tmp_path / file, tmp_path)
    assert place_of_scores(tmp_path, split) == tmp_path / "evaluation" / folder


def test_other_data_of_the_same_name_get_a_folder_of_their_own(tmp_path: Path) -> None:
    def scored(split: Split, options: str = "") -> Path:
        place = place_of_scores(tmp_path, split)
        (place / options).mkdir(parents=True, exist_ok=True)
        (place / options / "scores.json").write_text(json.dumps({"data": split.to_json()}))
        return place

    first, second = (
        Split("val", tmp_path / where / "coco/annotations/instances_val.json", tmp_path)
        for where in "AB"
    )
    assert scored(first).name == "coco-val"
    assert scored(second, "soft").name.startswith("coco-val-")
    assert scored(second) == scored(second) != scored(first) == tmp_path / "evaluation/coco-val"
    lists = [tmp_path / where / "VOC2007/ImageSets/Main/test.txt" for where in "AB"]
    years = [Split("test", path, tmp_path, (path,)) for path in lists]
    assert len({scored(split) for split in years}) == 2
    # A model with keypoints is scored by another file of the same data.
    persons = first.annotations.with_name("person_keypoints_val.json")
    persons.parent.mkdir(parents=True)
    persons.touch()
    (tmp_path / "evaluation/coco-val/scores.json").write_text(
        json.dumps({"data": replace(first, annotations=persons).to_json()})
    )
    assert place_of_scores(tmp_path, first).name == "coco-val"
    for damaged in ("", "{}", '{"data": []}', '{"data": {}}'):
        (tmp_path / "evaluation/coco-val/scores.json").write_text(damaged)
        assert place_of_scores(tmp_path, second).name == "coco-val"


def test_vocs_lists_get_a_folder_by_year_and_list(tmp_path: Path) -> None:
    lists = tuple(
        tmp_path / f"VOC{year}/ImageSets/Main/trainval.txt" for year in (2007, 2012)
    )  # fmt: skip
    split = Split("trainval", lists[0], tmp_path, lists)
    found = place_of_scores(tmp_path, split)
    assert found == tmp_path / "evaluation" / "VOC2007_trainval+VOC2012_trainval"
