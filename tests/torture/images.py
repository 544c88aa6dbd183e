"""Mutated images: `check`, reading and `predict` must agree whether there is a picture."""

import json
import shutil
from pathlib import Path

from detnet.data.images import read_pixels
from detnet.errors import InputError
from tests.torture.command import Found, call, finite_json, judge, short, where
from tests.torture.mutate_bytes import Random
from tests.torture.mutate_image import SIZE, mutate_image
from tests.torture.networks import write_detector
from tests.torture.record import CLEAR, FINDINGS, TRACEBACK, WRONG

_SIZES = {"size-differs", "exif-rotation"}


def base(folder: Path) -> None:
    write_detector(folder / "model.safetensors")


def attack(random: Random, base: Path, scratch: Path) -> Found:
    """Checks and reads a data set of one image, and predicts on some."""
    suffix, data = mutate_image(random)
    folder, width_height = scratch / "data", SIZE
    try:
        (folder / "annotations").mkdir(parents=True)
        (folder / "train").mkdir()
        image = folder / "train" / f"a.{suffix}"
        image.write_bytes(data)
        record = dict(zip(("width", "height"), width_height, strict=True))
        content = {
            "images": [{"id": 1, "file_name": image.name, **record}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 8], "area": 72}
            ],
        }
        (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
        found = _agree(folder, image)
        if found.verdict in FINDINGS or random.random() < 0.75:
            return found
        return _predicted(base / "model.safetensors", image, scratch / "out", found)
    finally:
        for left in scratch.iterdir():
            shutil.rmtree(left)


def _agree(folder: Path, image: Path) -> Found:
    """What `check` says against what reading finds."""
    said = call("check", folder, "--json")
    found = judge(said)
    if found.verdict in FINDINGS:
        return found
    codes = {p["code"] for p in said.json["problems"] if p["severity"] == "error"}
    lost = {code for code in codes if code.startswith("image-")}
    try:
        pixels = read_pixels(image)
    except InputError as error:
        if len(str(error).splitlines()) != 1:
            return Found(TRACEBACK, f"reading: several lines: {short(str(error))}")
        if not lost:
            return Found(WRONG, f"check finds no error, reading refuses: {short(str(error))}")
        return Found(CLEAR, "listed by check")
    except Exception as error:
        return Found(TRACEBACK, f"reading: {where(error)}")
    if lost:
        return Found(WRONG, f"check refuses, reading does not: {short(said.out)}")
    same = pixels.shape == (SIZE[1], SIZE[0], 3)
    if same == bool(codes & _SIZES):
        return Found(WRONG, f"read as {pixels.shape}, check says {sorted(codes)}")
    return found


def _predicted(model: Path, image: Path, output: Path, before: Found) -> Found:
    """Predicts; an image that cannot be read is skipped by name, all others are used."""
    said = call("predict", model, image, "--output", output, "--device", "cpu", "--json")
    skipped = "skipped:" in said.err and said.code == 0
    if skipped or said.code == 2:
        lines = said.err.splitlines()
        if said.trace or len(lines) != 1:
            return Found(TRACEBACK, f"predict: {said.trace or short(said.err)}")
        sound = before.verdict != CLEAR
        return Found(WRONG, f"predict refuses: {lines[0]}") if sound else before
    found = judge(said)
    return found if found.verdict in FINDINGS else finite_json(said) or before
