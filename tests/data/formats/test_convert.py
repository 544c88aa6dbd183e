"""Whole conversions: recognised, written whole or not at all, and sound by `check`."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detnet.data.check import check
from detnet.data.folders import find_split
from detnet.data.formats.convert import convert
from detnet.data.formats.sources import read_splits, recognise
from detnet.errors import InputError

SQUARE = [[10, 5, 30, 5, 30, 15, 10, 15]]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two splits that name the same file in their own folders; gaps in the ids; a crowd, a mask."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for seed, split in enumerate(("train", "val")):
        (folder / split / "sub").mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / "sub" / "1.png")
        Image.fromarray(pixels[::-1]).save(folder / split / "empty.png")
        raw = {
            "images": [
                {"id": 900100000149, "file_name": "sub/1.png", "width": 60, "height": 40},
                {"id": 3, "file_name": "empty.png", "width": 60, "height": 40},
            ],
            "annotations": [
                annotation(0, 18, [10, 5, 20, 10], 200, segmentation=SQUARE),
                annotation(5, 7, [1.5, 2.25, 20, 10.5], 210),
                annotation(6, 7, [40, 20, 20, 20], 400, iscrowd=1),
            ],
            "categories": [{"id": 18, "name": "dog"}, {"id": 7, "name": "a cat"}],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(raw))
    return folder


def annotation(number: int, category: int, bbox: list[float], area: float, **more: Any) -> dict:
    ids = {"id": number, "image_id": 900100000149, "category_id": category}
    return {**ids, "bbox": bbox, "area": area, "iscrowd": 0, **more}


def boxes(data: Path, split: str) -> list[tuple[str, tuple[float, ...], bool]]:
    return sorted(
        (box.name, tuple(box.box), box.crowd)
        for picture in read_splits(data).splits[split]
        for box in picture.boxes
    )


def test_to_voc_and_back(coco: Path, tmp_path: Path) -> None:
    done = convert(coco, tmp_path / "voc", target_format="voc")
    assert done.source_format == "coco"
    assert done.counts == {s: {"images": 2, "annotations": 3} for s in ("train", "val")}
    assert done.notes == ["left out the masks of 2 objects: VOC's XML has boxes only"]
    assert recognise(tmp_path / "voc") == "voc"
    back = convert(tmp_path / "voc", tmp_path / "back")
    assert back.counts == done.counts
    for split in ("train", "val"):
        assert boxes(tmp_path / "back", split) == boxes(coco, split)
        pictures = read_splits(tmp_path / "back").splits[split]
        stored = {p.path.read_bytes() for p in pictures}
        assert stored == {p.path.read_bytes() for p in read_splits(coco).splits[split]}
    assert read_splits(tmp_path / "back").classes == ["a cat", "dog"]


def test_to_yolo_and_back(coco: Path, tmp_path: Path) -> None:
    done = convert(coco, tmp_path / "yolo", target_format="yolo")
    assert done.counts["train"] == {"images": 2, "annotations": 2}
    assert recognise(tmp_path / "yolo") == "yolo"
    convert(tmp_path / "yolo", tmp_path / "back")
    for split in ("train", "val"):
        kept = [row for row in boxes(coco, split) if not row[2]]
        assert boxes(tmp_path / "back", split) == kept


def test_the_result_is_sound_and_its_splits_are_found(coco: Path, tmp_path: Path) -> None:
    convert(coco, tmp_path / "voc", target_format="voc")
    convert(tmp_path / "voc", tmp_path / "back")
    report = check(tmp_path / "back")
    assert {p.code for p in report.problems} == {"few-boxes", "crowd", "image-without-annotations"}
    split = find_split(tmp_path / "back", "val")
    assert split.images == tmp_path / "back" / "images" / "val"
    raw = json.loads(split.annotations.read_text())
    assert [row["id"] for row in raw["annotations"]] == [1, 2, 3]
    assert [row["id"] for row in raw["categories"]] == [1, 2]


def test_outlines_become_masks(tmp_path: Path) -> None:
    (tmp_path / "in" / "images").mkdir(parents=True)
    (tmp_path / "in" / "labels").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "in" / "images" / "a.jpg")
    (tmp_path / "in" / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (tmp_path / "in" / "data.yaml").write_text("names: [dog]\n")
    convert(tmp_path / "in", tmp_path / "out")
    raw = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert raw["annotations"][0]["segmentation"] == [[6, 4, 30, 4, 30, 24]]
    assert raw["annotations"][0]["area"] == 240
    assert raw["annotations"][0]["bbox"] == [6, 4, 24, 20]


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_a_byte_order_mark_changes_nothing(coco: Path, tmp_path: Path, target: str) -> None:
    data = tmp_path / target
    if target != "coco":
        convert(coco, data, target_format=target)
    if target == "yolo":
        lists = {split: f"{split}.txt" for split in ("train", "val")}
        for split, name in lists.items():
            (data / name).write_text(f"images/{split}/1.png\nimages/{split}/empty.png\n")
        (data / "data.yaml").write_text(json.dumps({"names": ["a cat", "dog"], **lists}))
    before = read_splits(data)
    marked = [p for p in data.rglob("*") if p.suffix in (".json", ".txt", ".xml", ".yaml")]
    for path in marked:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(marked) >= 2 and read_splits(data) == before
    if target == "yolo":
        (data / "data.yaml").unlink()
        (data / "classes.txt").write_bytes(b"\xef\xbb\xbfa cat\ndog\n")
        assert read_splits(data) == before


@pytest.mark.parametrize("link", [True, False])
def test_images_are_links_or_copies(coco: Path, tmp_path: Path, link: bool) -> None:
    convert(coco, tmp_path / "out", target_format="yolo", link=link)
    there = tmp_path / "out" / "images" / "val" / "1.png"
    assert os.path.samefile(coco / "val" / "sub" / "1.png", there) is link


def test_nothing_is_written_over(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out: exists already"):
        convert(coco, tmp_path / "out", target_format="voc")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_of_a_failure(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detnet.data.formats.convert.place_image", full)
    with pytest.raises(OSError, match="No space"):
        convert(coco, tmp_path / "new" / "out", target_format="yolo")
    assert list((tmp_path / "new").iterdir()) == []


def test_sources_that_cannot_be_converted(coco: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no data set recognised.*name its format by --from"):
        convert(empty, out)
    with pytest.raises(InputError, match="no such folder"):
        convert(tmp_path / "none", out)
    with pytest.raises(InputError, match="in coco format already"):
        convert(coco, out)
    Image.new("RGB", (60, 40)).save(empty / "a.jpg")
    (empty / "classes.txt").write_text("dog\n")
    with pytest.raises(InputError, match="empty: no image has an object; read as yolo, --from"):
        convert(empty, out)
    (coco / "val" / "empty.png").unlink()
    with pytest.raises(InputError, match=r"empty\.png: no such image"):
        convert(coco, out, target_format="voc")
    assert not out.exists()


def test_a_coco_file_with_errors_is_refused(coco: Path, tmp_path: Path) -> None:
    path = coco / "annotations" / "instances_val.json"
    raw = json.loads(path.read_text())
    raw["annotations"][0]["category_id"] = 1
    raw["annotations"][1]["bbox"] = ["1", 2, 3, 4]
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"annotation .*\(\+1 more: run `detnet check .*coco`\)"):
        convert(coco, tmp_path / "out", target_format="voc")


@pytest.mark.parametrize(("target", "objects"), [("voc", 4), ("yolo", 3)])
def test_records_of_one_file_are_joined(
    coco: Path, tmp_path: Path, target: str, objects: int
) -> None:
    path = coco / "annotations" / "instances_val.json"
    raw = json.loads(path.read_text())
    raw["images"].append({**raw["images"][0], "id": 4})
    for row in (raw["annotations"][1], annotation(0, 7, [2, 3, 20, 10], 200)):
        raw["annotations"].append({**row, "id": len(raw["annotations"]) + 10, "image_id": 4})
    path.write_text(json.dumps(raw))
    done = convert(coco, tmp_path / "out", target_format=target)
    assert done.counts["val"] == {"images": 2, "annotations": objects}  # the same box is one
    assert "val: joined 1 records of images named before" in done.notes
    names = [box[0] for box in boxes(tmp_path / "out", "val")]
    assert sorted(names) == ["a cat"] * (objects - 1) + ["dog"]


def test_names_that_repeat_the_folder(coco: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        path = coco / "annotations" / f"instances_{split}.json"
        raw = json.loads(path.read_text())
        for image in raw["images"]:
            image["file_name"] = f"{split}/{image['file_name']}"
        path.write_text(json.dumps(raw))
    convert(coco, tmp_path / "out", target_format="yolo")
    assert check(tmp_path / "coco").count("error") == 0
    for picture in read_splits(coco).pictures:
        assert picture.path.is_file()


def test_a_full_disk_names_the_folder_and_leaves_nothing(coco: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large.*new"):
            convert(coco, tmp_path / "new", target_format="voc", link=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]
