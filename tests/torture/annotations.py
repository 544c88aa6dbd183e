"""Mutated annotation files: COCO's JSON, VOC's XML and lists, YOLO's text and YAML.

What `check` calls sound must load, and what it refuses must not; what was converted must be sound.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from detnet.errors import InputError
from tests.torture.command import Found, Said, call, finite_json, judge, short, where
from tests.torture.material import write_coco, write_voc, write_yolo
from tests.torture.mutate_bytes import Random, mutate_bytes, mutate_text
from tests.torture.mutate_json import mutate_json
from tests.torture.mutate_xml import mutate_xml
from tests.torture.record import ACCEPTED, CLEAR, FINDINGS, TRACEBACK, WRONG


def coco_base(base: Path) -> None:
    write_coco(base / "coco")


def coco(random: Random, base: Path, scratch: Path) -> Found:
    """Checks, loads, scores and converts a data set whose JSON was mutated."""
    data = base / "coco"
    path = data / "annotations" / "instances_train.json"
    sound = _kept(path)
    try:
        path.write_bytes(mutate_json(random, json.loads(sound)))
        found = _checked_and_loaded(data, "train", images=random.random() < 0.3)
        if found.verdict in FINDINGS:
            return found
        iou_type = ("bbox", "segm", "keypoints")[int(random.integers(3))]
        scored = same_scores(path, data / "results.json", iou_type)
        if scored.verdict in FINDINGS:
            return scored
        target = ("yolo", "voc")[int(random.integers(2))]
        converted = _converted(data, scratch / "converted", target)
        return converted if converted.verdict in FINDINGS else found
    finally:
        _put_back(path, sound, scratch)


def voc_base(base: Path) -> None:
    write_voc(base / "voc")


def voc(random: Random, base: Path, scratch: Path) -> Found:
    """Checks, loads and converts a data set of which one XML file, or one list, was mutated."""
    data = base / "voc"
    files = sorted((data / "Annotations").iterdir())
    lists = [*sorted((data / "ImageSets" / "Main").iterdir()), data / "labels.txt"]
    chosen = files if random.random() < 0.85 else lists
    path = chosen[int(random.integers(len(chosen)))]
    sound = _kept(path)
    try:
        path.write_bytes(mutate_xml(random, sound) if chosen is files else _text(random, sound))
        for split in ("train", "val"):
            found = _checked_and_loaded(data, split, images=split == "val")
            if found.verdict in FINDINGS:
                return found
        return _converted(data, scratch / "converted", "coco")
    finally:
        _put_back(path, sound, scratch)


def yolo_base(base: Path) -> None:
    write_yolo(base / "yolo")


def yolo(random: Random, base: Path, scratch: Path) -> Found:
    """Converts a data set of which one label file, or data.yaml, was mutated."""
    data = base / "yolo"
    labels = sorted((data / "labels").rglob("*.txt"))
    path = labels[int(random.integers(len(labels)))]
    path = path if random.random() < 0.8 else data / "data.yaml"
    sound = _kept(path)
    try:
        path.write_bytes(_text(random, sound))
        target = ("coco", "voc")[int(random.integers(2))]
        return _converted(data, scratch / "converted", target)
    finally:
        _put_back(path, sound, scratch)


def same_scores(truth: Path, results: Path, iou_type: str) -> Found:
    """Scores by both engines, which must say the same, in numbers that are some."""
    words = ("--annotations", truth, "--results", results, "--iou-type", iou_type, "--json")
    said = [call("score", *words, "--evaluator", name) for name in ("hotcoco", "pycocotools")]
    judged = [judge(one) for one in said]
    for one in judged:
        if one.verdict in FINDINGS:
            return one
    if {one.verdict for one in judged} == {CLEAR}:
        return judged[0]
    if CLEAR in {one.verdict for one in judged}:
        return Found(WRONG, f"one engine refuses, the other scores: {short(str(judged))}")
    broken = finite_json(said[0]) or finite_json(said[1])
    return broken or _equal(*(_scores(one) for one in said))


def _scores(said: Said) -> dict[str, float | None]:
    content = said.json
    return {k: v for k, v in content.items() if v is None or isinstance(v, float | int)}


def _equal(mine: dict[str, float | None], other: dict[str, float | None]) -> Found:
    for name in mine.keys() | other.keys():
        a, b = mine.get(name), other.get(name)
        if (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > 1e-9):
            return Found(WRONG, f"engines differ: {name} {a} and {b}")
        if a is not None and not 0 <= a <= 1:
            return Found(WRONG, f"{name} {a} is no fraction")
    return Found(ACCEPTED, "")


def _checked_and_loaded(data: Path, split: str, *, images: bool) -> Found:
    """`check` and the loading of annotations must agree whether a split is sound."""
    argv = ("check", data, "--split", split, "--json")
    said = call(*argv) if images else call(*argv, "--no-images")
    found = judge(said)
    if found.verdict in FINDINGS:
        return found
    errors = 1
    if said.code != 2:
        broken = finite_json(said)
        if broken:
            return broken
        problems = said.json["problems"]
        if any("\n" in problem["message"] for problem in problems):
            return Found(TRACEBACK, "check: a problem of several lines")
        about_images = ("image-", "size-differs", "exif-", "duplicate-image", "images-missing")
        of_the_file = ("duplicate-image-id", "image-outside")
        errors = sum(
            p["severity"] == "error"
            and (not p["code"].startswith(about_images) or p["code"] in of_the_file)
            for p in problems
        )
    try:
        load_annotations(find_split(data, split))
    except InputError as error:
        if not errors:
            return Found(WRONG, f"check finds no error, loading refuses: {short(str(error))}")
        return found
    except Exception as error:
        return Found(TRACEBACK, f"load_annotations: {where(error)}")
    if errors:
        return Found(WRONG, f"check finds errors, loading does not: {short(said.out)}")
    return found


def _converted(data: Path, output: Path, target: str) -> Found:
    """Converts, and checks what comes of it."""
    found = judge(call("convert", data, "--output", output, "--to", target))
    if found.verdict in FINDINGS:
        return found
    if found.verdict == CLEAR:
        left = [path.name for path in output.parent.iterdir()]
        return Found(WRONG, f"convert failed and left {left}") if left else found
    if target == "yolo":  # what `check` does not read is converted once more
        back = output.with_name("back")
        again = judge(call("convert", output, "--output", back))
        if again.verdict != ACCEPTED:
            empty = "no image has an object" in again.detail
            return found if empty else Found(WRONG, f"convert back: {again.detail}")
        output = back
    said = call("check", output, "--no-images", "--json")
    if judge(said).verdict in FINDINGS:
        return judge(said)
    errors = [p for p in said.json["problems"] if p["severity"] == "error"]
    if errors:
        return Found(WRONG, f"convert wrote errors: {short(str(errors[0]))}")
    return found


def _text(random: Random, data: bytes) -> bytes:
    change: Callable[[Random, bytes], bytes]
    change = mutate_text if random.random() < 0.7 else mutate_bytes
    return change(random, data)


def _kept(path: Path) -> bytes:
    """The sound content, kept beside: a process that a bound ends puts nothing back."""
    copy = path.with_name(f".sound-{path.name}")
    if not copy.exists():
        copy.write_bytes(path.read_bytes())
    return copy.read_bytes()


def _put_back(path: Path, sound: bytes, scratch: Path) -> None:
    path.write_bytes(sound)
    for left in scratch.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
