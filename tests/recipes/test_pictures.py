import json
from pathlib import Path

from PIL import Image

from detnet.data.coco import load_annotations
from detnet.data.folders import find_split
from detnet.recipes.pictures import write_pictures


def test_captions_count_hits_misses_and_false_alarms(scenes: Path, tmp_path: Path) -> None:
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    objects = [a for a in truth["annotations"] if a["image_id"] == 1]
    kept = objects[1:]  # one is missed
    results = [{**a, "score": 0.9} for a in kept]
    results += [{**kept[0], "score": 0.8}]  # a double is false
    results += [{**kept[0], "score": 0.3}]  # not sure enough to be shown
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    annotations, _ = load_annotations(find_split(scenes, "val"), masks=True)
    pictures = write_pictures(annotations, path, tmp_path / "pictures", count=3)
    captions = {caption.split(":")[0]: caption for caption, _ in pictures}
    first = captions[annotations.file_name(0)]
    assert first.endswith(f"{len(objects)} objects, {len(kept)} found, 1 missed, 1 false")
    assert len(pictures) == 3
    for _, picture in pictures:
        with Image.open(picture) as image:
            assert image.width > 2 * 160  # two pictures side by side


def test_without_detections_everything_is_missed(scenes: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[]")
    annotations, _ = load_annotations(find_split(scenes, "val"))
    pictures = write_pictures(annotations, path, tmp_path / "pictures", count=2)
    assert all("0 found" in caption and "0 false" in caption for caption, _ in pictures)
