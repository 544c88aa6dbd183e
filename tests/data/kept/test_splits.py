import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.coco.categories import Categories
from detnet.coco.keypoints import unnamed_layout
from detnet.data import reading
from detnet.data.batches import TrainBatches, stream
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split, find_split, format_of
from detnet.data.kept import __main__ as reader
from detnet.data.kept import splits, telling
from detnet.data.kept.splits import ReadOptions, load_kept, make, place_of
from detnet.data.reading import fingerprint_files, load_annotations, load_scored
from detnet.data.transforms import Augmentation
from detnet.engine.loop import to_device
from detnet.errors import InputError
from tests.data.kept.test_packing import require_equal

TRIANGLE = [[1, 2, 20, 3, 4, 30]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is read of any file is kept, however small, and all files were written long ago."""
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(splits, "_LARGE", 0)
    monkeypatch.setattr(splits, "_SETTLED_NS", -(10**15))
    return tmp_path / "cache" / "annotations"


@pytest.fixture
def split(write_data: Callable[..., Split], record: Callable[..., Any]) -> Split:
    return write_data(
        [(60, 40), (50, 70), (30, 20)],
        [
            record(7, 2, [1, 2, 40, 5]),
            record(5, 0, [3.5, 4, 20.25, 30], segmentation=TRIANGLE, area=None),
            record(6, 0, [0, 0, 30, 20], category_id=2, iscrowd=1),
        ],
    )


@pytest.fixture
def readings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadOptions]]:
    """What was read, in this process instead of one of its own."""
    found: list[ReadOptions] = []

    def read(split: Split, asked: ReadOptions) -> Any:
        found.append(asked)
        return reader._read(split, asked)

    def in_here(split: Split, asked: ReadOptions) -> None:
        try:
            make(json.dumps([splits._plain(split), vars(asked)]), read)
        except reader._Unsound as error:
            raise InputError(str(error)) from None
        except (InputError, OSError):
            pass

    monkeypatch.setattr(splits, "_read_apart", in_here)
    yield found


def unkept(load: Any, split: Split, **options: Any) -> Any:
    return load.__wrapped__(split, **options)


def require_same_reading(split: Split, **options: Any) -> None:
    annotations, repairs, truths = load_scored(split, **options)
    other, others_repairs, other_truths = unkept(load_scored, split, **options)
    require_equal(annotations, other)
    assert repairs == others_repairs
    assert not annotations.boxes.flags.writeable and other.boxes.flags.writeable
    for kind in ("bbox", "segm", "keypoints"):
        if getattr(other_truths, kind) is not None:
            require_equal(truths.of(kind), other_truths.of(kind))


def test_a_process_of_its_own_reads_for_all_that_follow(
    split: Split, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(telling, "_listeners", [])
    telling.when_reading(lines.append)
    require_same_reading(split, masks=True)
    assert len(lines) == 1  # at once, and not when it is there
    assert lines[0].startswith(f"reading {split.annotations} with its masks, 0 MB; what is read ")
    assert f"kept in {cache}, and not read again" in lines[0]
    (place,) = cache.glob("*.columns")
    assert place == place_of(split, ReadOptions(masks=True, scored=True))
    assert place.name.startswith("instances_train-")
    monkeypatch.setattr(subprocess, "run", None)  # nobody is asked again
    require_same_reading(split, masks=True)
    assert len(lines) == 1


@pytest.mark.parametrize("options", [{}, {"keep_empty": False}, {"masks": True}])
def test_each_reading_is_kept_by_itself(
    split: Split, readings: list[ReadOptions], options: dict[str, bool]
) -> None:
    for _ in range(2):
        require_same_reading(split, **options)
        annotations, _ = load_annotations(split, **options)
        require_equal(annotations, unkept(load_annotations, split, **options)[0])
    assert readings == [ReadOptions(scored=True, **options), ReadOptions(**options)]


def test_errors_are_told_as_without_and_keep_nothing(split: Split, cache: Path) -> None:
    content = json.loads(split.annotations.read_text())
    content["annotations"][1]["bbox"] = [1, 2, 3]
    split.annotations.write_text(json.dumps(content))
    with pytest.raises(InputError) as told:
        load_annotations(split)
    with pytest.raises(InputError) as expected:
        unkept(load_annotations, split)
    assert str(told.value) == str(expected.value)
    assert 'annotation 5 (image 000.png): "bbox" must be 4 finite numbers' in str(told.value)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"categories": Categories((1, 2), ("cat", "cow")), "categories_of": "a model"}, {}),
    ({"keypoints": True}, {}),
    ({"keypoints": True, "layout": unnamed_layout(2, 3)}, {"keypoints": ["nose"]}),
    ({}, {"file_name": "../out.png"}),
    ({"keep_empty": False}, {"file_name": "../out.png"}),
    ({}, {"annotations": None}),
    ({"masks": True}, {"segmentation": None}),
]


@pytest.mark.parametrize(("options", "change"), REFUSED)
def test_what_is_asked_of_a_file_is_asked_of_its_columns(
    split: Split, readings: list[ReadOptions], options: dict[str, Any], change: dict[str, Any]
) -> None:
    content = json.loads(split.annotations.read_text())
    if "file_name" in change:
        content["images"][1] |= change  # one without objects
    elif "keypoints" in change:
        for category in content["categories"]:
            category |= change
        content["annotations"][0]["keypoints"] = [3, 4, 2]
    elif "annotations" in change:
        del content["annotations"]
    else:
        content["annotations"] = [{**one, **change} for one in content["annotations"]]
    split.annotations.write_text(json.dumps(content))
    with pytest.raises(InputError) as expected:
        unkept(load_annotations, split, **options)
    for _ in range(2):
        with pytest.raises(InputError) as told:
            load_annotations(split, **options)
        assert str(told.value) == str(expected.value)


def test_a_file_without_annotations_is_read_each_time(
    write_data: Callable[..., Split], readings: list[ReadOptions], cache: Path
) -> None:
    split = write_data([(60, 40)], [], files=False)
    assert len(load_scored(split, unlabelled=True)[0]) == 1
    assert not [*cache.glob("*.columns")]


def test_a_changed_file_is_read_anew(split: Split, readings: list[ReadOptions]) -> None:
    assert load_annotations(split)[0].annotation_ids.tolist() == [5, 6, 7]
    before = os.stat(split.annotations)
    text = split.annotations.read_text()
    split.annotations.write_text(text.replace('"id": 7', '"id": 9'))  # as long, and as old
    os.utime(split.annotations, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_annotations(split)[0].annotation_ids.tolist() == [5, 6, 9]
    split.annotations.write_text(text + " ")
    assert load_annotations(split)[0].annotation_ids.tolist() == [5, 6, 7]
    assert len(readings) == 3
    os.utime(split.annotations)  # the same content is the same file
    assert load_annotations(split)[0].annotation_ids.tolist() == [5, 6, 7]
    assert len(readings) == 3


def test_what_was_written_just_now_is_compared(
    split: Split, readings: list[ReadOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of its clock, a file system does not tell two versions of a file apart."""
    monkeypatch.setattr(splits, "_SETTLED_NS", 10**15)
    load_annotations(split)
    status = splits._status(split)
    text = split.annotations.read_text()
    split.annotations.write_text(text.replace('"id": 7', '"id": 9'))
    monkeypatch.setattr(splits, "_status", lambda split: status)
    assert load_annotations(split)[0].annotation_ids.tolist() == [5, 6, 9]


def test_what_other_code_has_read_is_read_anew(
    split: Split, readings: list[ReadOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_annotations(split)
    monkeypatch.setattr(splits, "_code", lambda: "a version with other repairs")
    load_annotations(split)
    load_annotations(split)
    assert len(readings) == 2


def test_damaged_columns_are_made_anew(
    split: Split, readings: list[ReadOptions], cache: Path
) -> None:
    load_annotations(split)
    (place,) = cache.glob("*.columns")
    whole = place.read_bytes()
    for content in (b"", b"nonsense", whole[:-200], whole[:-100] + bytes(100)):
        place.unlink()  # what is mapped may not be cut
        place.write_bytes(content)
        require_equal(load_annotations(split)[0], unkept(load_annotations, split)[0])
        assert place.read_bytes() == whole
    assert len(readings) == 5


def test_those_who_ask_at_once_wait_for_one(
    split: Split, readings: list[ReadOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: load_annotations(split)[0], range(4))]
    assert len(readings) == 1
    for each in found:
        require_equal(each, found[0])


def test_a_killed_reader_leaves_nothing_and_lets_others_go_on(
    split: Split, readings: list[ReadOptions], cache: Path
) -> None:
    program = (
        "import os, sys\nfrom detnet.data.kept.splits import make\n"
        "make(sys.argv[1], lambda *asked: os.kill(os.getpid(), 9))"
    )
    told = json.dumps([splits._plain(split), vars(ReadOptions())])
    done = subprocess.run([sys.executable, "-c", program, told], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    load_annotations(split)
    assert len(readings) == 1


def test_where_nothing_can_be_kept_the_file_is_read(
    split: Split, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "file"))
    assert load_annotations(split)[0].boxes.flags.writeable
    with pytest.raises(InputError, match="no such file|No such file"):
        load_annotations(replace(split, annotations=tmp_path / "none.json"))


def test_small_files_and_other_formats_are_read(
    split: Split, cache: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_kept(replace(split, format="yolo")) is None
    monkeypatch.undo()
    monkeypatch.setenv("DETNET_CACHE", str(cache.parent))
    assert load_kept(find_split(scenes, "train")) is None
    assert not cache.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A YOLO folder of two splits with two images each, one of them without labels."""
    for number, name in enumerate(("train/a", "train/b", "val/c", "val/d")):
        for kind in ("images", "labels"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / "images" / f"{name}.png")
        if number % 2 == 0:
            (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .2 .2\n" * (number + 1))
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: images/train\nval: images/val\n")
    return tmp_path


def test_folders_of_many_files_are_kept_while_none_changes(
    folder: Path, readings: list[ReadOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    def boxes(name: str) -> list[int]:
        split = find_split(folder, name)
        assert fingerprint_files(split) == format_of(split).fingerprint(split)
        notes = load_annotations(split)[0]
        require_equal(notes, unkept(load_annotations, split)[0])
        return np.diff(notes.offsets).tolist()

    assert boxes("val") == [3, 0] and readings == []  # not many
    monkeypatch.setattr(splits, "_MANY", 4)
    for _ in range(2):
        assert (boxes("train"), boxes("val")) == ([1, 0], [3, 0])
    assert len(readings) == 2
    (folder / "labels/train/b.txt").write_text("0 .5 .5 .2 .2\n")  # where there was none
    assert (boxes("train"), boxes("val")) == ([1, 1], [3, 0])
    assert len(readings) == 3
    Image.new("RGB", (50, 70)).save(folder / "images/train/b.png")
    assert load_annotations(find_split(folder, "train"))[0].sizes.tolist() == [[60, 40], [50, 70]]
    (folder / "images/train/a.png").unlink()
    assert boxes("train") == [1]
    (folder / "data.yaml").write_text("names: [b]\ntrain: images/train\nval: images/val\n")
    assert load_annotations(find_split(folder, "val"))[0].categories.names == ("b",)
    assert len(readings) == 5  # one image alone is not many
    (folder / "labels/val/d.txt").write_text("7 .5 .5 .2 .2\n")
    with pytest.raises(InputError, match="class 7 is not among"):
        load_annotations(find_split(folder, "val"))


def test_columns_of_files_that_are_gone_are_deleted(
    split: Split, readings: list[ReadOptions], cache: Path
) -> None:
    load_annotations(split)
    moved = replace(split, annotations=split.annotations.rename(split.annotations.with_name("b")))
    load_annotations(moved)
    kept = [place_of(moved, ReadOptions()), splits._place(moved, "fingerprint", "json")]
    assert {path.name for path in cache.iterdir()} == {
        name for place in kept for name in (place.name, place.with_suffix(".lock").name)
    }


def test_a_fingerprint_is_made_by_the_first_who_asks(
    split: Split, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Split] = []

    def hashed(split: Split) -> str:
        made.append(split)
        return format_of(split).fingerprint(split)

    monkeypatch.setattr(splits, "format_of", lambda split: SimpleNamespace(fingerprint=hashed))
    expected = format_of(split).fingerprint(split)
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(lambda _: fingerprint_files(split), range(4))} == {expected}
    assert len(made) == 1
    (kept,) = cache.glob("*.json")
    for damaged in ("", "[]", "{}", '{"status": []}'):
        kept.write_text(damaged)
        assert fingerprint_files(split) == expected
    assert len(made) == 5
    split.annotations.write_text(split.annotations.read_text() + " ")
    assert fingerprint_files(split) == format_of(split).fingerprint(split) != expected
    monkeypatch.setattr(splits, "_SETTLED_NS", 10**15)  # as if it had been written just now
    split.annotations.write_text(split.annotations.read_text() + " ")
    for _ in range(2):
        assert fingerprint_files(split) == format_of(split).fingerprint(split)
    assert len(made) == 8


def test_workers_make_the_same_batches_of_mapped_columns(
    split: Split, readings: list[ReadOptions]
) -> None:
    batches = []
    for load in (load_annotations, reading.load_annotations.__wrapped__):  # type: ignore[attr-defined]
        notes, _ = load(split, masks=True)
        dataset = DetectionDataset(notes, Augmentation(min_sizes=(24,)), seed=0, masks=True)
        dealt = TrainBatches(notes, batch_size=2)
        loaded = stream(dataset, dealt, start=0, stop=2, workers=2)
        batches.append([to_device(batch, torch.device("cpu")) for batch in loaded])
    for (images, targets), (others, other_targets) in zip(*batches, strict=True):
        assert all(map(torch.equal, images, others))
        for one, other in zip(targets, other_targets, strict=True):
            assert torch.equal(one["masks"], other["masks"])
            assert torch.equal(one["boxes"], other["boxes"])
