"""Checks of whole data sets, made here with one fault each."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detnet.data.check import Report, check, check_splits
from detnet.data.folders import Split
from detnet.data.formats.convert import convert
from detnet.errors import InputError
from tests.data.small_sets import annotations, write_image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A faultless set: train with a.jpg and b.jpg, val with c.jpg, all in images/."""
    for seed, name in enumerate(["a.jpg", "b.jpg", "c.jpg"]):
        write_image(tmp_path / "images" / name, seed)
    (tmp_path / "annotations").mkdir()
    rewrite(tmp_path, "train", annotations(["a.jpg", "b.jpg"]))
    rewrite(tmp_path, "val", annotations(["c.jpg"]))
    return tmp_path


def rewrite(data: Path, split: str, raw: dict[str, Any]) -> Path:
    path = data / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(raw))
    return path


def only_problem(report: Report) -> tuple[str, str, str, str, str]:
    assert len(report.problems) == 1, report.problems
    problem = report.problems[0]
    return problem.severity, problem.code, problem.file, problem.record, problem.message


def only_problem_of(report: Report, severity: str) -> tuple[str, str, str]:
    (problem,) = [each for each in report.problems if each.severity == severity]
    return problem.code, problem.file, problem.message


def test_a_faultless_set(data: Path) -> None:
    told: list[tuple[int, int]] = []
    report = check(data, progress=lambda *done: told.append(done))
    assert report.problems == []
    assert list(report.statistics["splits"]) == ["train", "val"]
    assert report.statistics["splits"]["train"]["per_class"]["cat"]["annotations"] == 20
    assert told[-1] == (3, 3)
    assert json.loads(json.dumps(report.to_json()))["problems"] == []


def test_names_that_repeat_the_folder(data: Path) -> None:
    rewrite(data, "train", annotations(["images/a.jpg", "images/b.jpg"]))
    assert check(data).problems == []
    (data / "images" / "a.jpg").unlink()
    assert only_problem(check(data))[1:4] == (
        "image-missing",
        str(data / "images" / "a.jpg"),
        "image 1 (images/a.jpg)",
    )


def test_a_cut_annotation_file_is_a_problem(data: Path) -> None:
    path = data / "annotations" / "instances_val.json"
    path.write_text(path.read_text()[:-20])
    severity, code, file, _, message = only_problem(check(data))
    assert (severity, code, file) == ("error", "unreadable-json", str(path))
    assert message.startswith("not JSON, or cut off: ")
    assert list(check(data).statistics["splits"]) == ["train"]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, "image-missing", "does not exist"),
        (b"these are words\n", "image-unreadable", "is a text file"),
        (b"", "image-unreadable", "the file is empty"),
        (0.7, "image-truncated", "the image is cut off"),
    ],
)
def test_an_image_that_cannot_be_used(
    data: Path, content: bytes | float | None, code: str, message: str
) -> None:
    path = data / "images" / "b.jpg"
    if content is None:
        path.unlink()
    elif isinstance(content, float):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * content)])
    else:
        path.write_bytes(content)
    problem = only_problem(check(data))
    assert problem[:4] == ("error", code, str(path), "image 2 (b.jpg)")
    assert message in problem[4]


def test_a_missing_image_whose_suffix_is_spelt_otherwise(data: Path) -> None:
    (data / "images" / "b.jpg").rename(data / "images" / "b.JPG")
    report = check(data)
    assert [problem.code for problem in report.problems] == ["image-missing", "image-unlisted"]
    assert report.problems[0].message == "the file does not exist; b.JPG does"


@pytest.mark.parametrize(
    "name", ["images\\b.jpg", "photos/b.jpg", "C:\\me\\photos\\b.jpg", "x/y/b.jpg"]
)
def test_a_missing_image_whose_folder_is_spelt_otherwise(data: Path, name: str) -> None:
    rewrite(data, "train", annotations([name, "a.jpg"]))
    report = check(data)
    assert [problem.code for problem in report.problems] == ["image-missing", "image-unlisted"]
    there = data / "images" / "b.jpg"
    assert report.problems[0].message == f"the file does not exist; {there} does"
    write_image(data / "images" / "more" / "b.jpg", 7)  # of two none is meant
    assert check(data).problems[0].message == "the file does not exist"


def test_a_size_that_differs(data: Path) -> None:
    raw = annotations(["c.jpg"])
    raw["images"][0].update(width=61)
    rewrite(data, "val", raw)
    problem = only_problem(check(data))
    assert problem[:2] == ("error", "size-differs")
    assert problem[3:] == ("image 1 (c.jpg)", "annotated as 61 x 40, but the image is 60 x 40")


def test_sides_that_are_swapped(data: Path) -> None:
    raw = annotations(["c.jpg"])
    raw["images"][0].update(width=40, height=60)
    rewrite(data, "val", raw)
    severity, code, _, _, message = only_problem(check(data))
    assert (severity, code) == ("error", "size-differs")
    assert message.endswith("the image is 60 x 40: width and height are swapped")


@pytest.mark.parametrize(
    ("orientation", "annotated", "severity", "code", "message"),
    [
        (6, (60, 40), "error", "exif-rotation", "annotated as stored, 60 x 40"),
        (6, (40, 60), "info", "exif-rotation", "read upright, as its annotation says"),
        (3, (60, 40), "warning", "exif-rotation", "look at it"),
        (0, (60, 40), "warning", "exif-invalid", "orientation 0 is not one of 1 to 8"),
        (65537, (60, 40), "warning", "exif-invalid", "orientation 65537"),
    ],
)
def test_exif_orientation(
    data: Path,
    orientation: int,
    annotated: tuple[int, int],
    severity: str,
    code: str,
    message: str,
) -> None:
    write_image(data / "images" / "c.jpg", 2, orientation=orientation)
    raw = annotations(["c.jpg"])
    raw["images"][0].update(width=annotated[0], height=annotated[1])
    rewrite(data, "val", raw)
    problem = only_problem(check(data))
    assert problem[:2] == (severity, code)
    assert message in problem[4]


def test_the_same_picture_twice(data: Path) -> None:
    shutil.copy(data / "images" / "a.jpg", data / "images" / "b.jpg")
    problem = only_problem(check(data))
    assert problem[:2] == ("warning", "duplicate-image")
    assert problem[3:] == ("image 2 (b.jpg)", "the same picture as image 1 (a.jpg)")


def test_the_same_picture_in_two_splits(data: Path) -> None:
    shutil.copy(data / "images" / "a.jpg", data / "images" / "c.jpg")
    problem = only_problem(check(data))
    assert problem[:2] == ("warning", "duplicate-across-splits")
    assert problem[4] == "in val, the same picture as train's image 1 (a.jpg)"


def test_one_file_named_in_two_splits(data: Path) -> None:
    rewrite(data, "val", annotations(["a.jpg"]))
    codes = [problem.code for problem in check(data).problems]
    assert codes == ["duplicate-across-splits", "image-unlisted"]


def test_hidden_files_need_no_record(data: Path) -> None:
    write_image(data / "images" / ".thumbnails" / "a.png", 10)
    (data / "images" / "._a.jpg").write_bytes(b"of a Mac")
    assert check(data).problems == []


def test_files_that_no_record_names(data: Path) -> None:
    for seed in range(7):
        write_image(data / "images" / "more" / f"{seed}.png", 10 + seed)
    (data / "images" / "notes.txt").write_text("no image, not counted")
    problem = only_problem(check(data))
    assert problem[:3] == ("info", "image-unlisted", str(data / "images"))
    assert "names 7 of the folder's image files: more/0.png" in problem[4]


def test_categories_that_differ_between_splits(data: Path) -> None:
    raw = annotations(["c.jpg"])
    raw["categories"][0]["name"] = "dog"
    path = rewrite(data, "val", raw)
    problem = only_problem(check(data))
    assert problem[:3] == ("error", "categories-differ", str(path))
    assert problem[4].endswith("instances_train.json: id 1 is 'cat' there and 'dog' here")


def test_problems_of_every_split_the_gravest_first(data: Path) -> None:
    for split, name in (("train", "a.jpg"), ("val", "c.jpg")):
        raw = annotations([name])
        raw["annotations"][0]["area"] = 1
        raw["annotations"][1]["category_id"] = 2
        rewrite(data, split, raw)
    problems = check(data).problems
    assert [problem.severity for problem in problems[:4]] == ["error"] * 2 + ["warning"] * 2
    assert {Path(problem.file).name for problem in problems[:2]} == {
        "instances_train.json",
        "instances_val.json",
    }


def test_only_the_split_asked_for(data: Path) -> None:
    (data / "images" / "a.jpg").unlink()
    assert check(data, splits=["val"]).count("error") == 0
    assert check(data, splits=["train"]).count("error") == 1
    with pytest.raises(InputError, match="test"):
        check(data, splits=["test"])


def test_no_image_is_opened_when_told_so(data: Path) -> None:
    shutil.rmtree(data / "images")
    assert check(data, images=False).problems == []


def test_a_set_without_its_images_is_still_checked(data: Path) -> None:
    shutil.rmtree(data / "images")
    problem = only_problem(check(data))
    assert problem[:2] == ("error", "images-missing")
    assert "images" in problem[4]


def test_roboflow_layout(data: Path, tmp_path: Path) -> None:
    for split, spelling, names in (("train", "train", "ab"), ("val", "valid", "c")):
        folder = tmp_path / "roboflow" / spelling
        folder.mkdir(parents=True)
        for name in names:
            shutil.copy(data / "images" / f"{name}.jpg", folder)
        shutil.copy(
            data / "annotations" / f"instances_{split}.json", folder / "_annotations.coco.json"
        )
    report = check(tmp_path / "roboflow")
    assert report.problems == []
    assert list(report.statistics["splits"]) == ["train", "val"]


def test_every_broken_record_of_a_yolo_folder(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "yolo"
    convert(data, folder, target_format="yolo")
    assert not [p for p in check(folder).problems if p.severity != "info"]
    labels = folder / "labels" / "train" / "a.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(["7 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", *lines[2:]]))
    (folder / "images" / "train" / "b.jpg").unlink()
    (folder / "images" / "val" / "c.jpg").unlink()
    (folder / "images" / "val" / "c.jpg").write_bytes(b"")
    report = check(folder)
    told = [(p.severity, p.code, Path(p.file).name, p.message[:16]) for p in report.problems]
    assert told == [
        ("error", "bad-label", "a.txt", "line 1: class 7 "),
        ("error", "bad-label", "a.txt", "line 2: 'nan' is"),
        ("error", "image-unreadable", "c.jpg", "the file is empt"),
        ("error", "no-images", "data.yaml", "names no images"),
        ("info", "few-boxes", "data.yaml", "has only 8 boxes"),
        ("info", "unused-category", "data.yaml", "has no boxes in "),
        ("info", "annotations-unread", "yolo", "1 file of annota"),
    ]
    assert report.problems[-1].message.endswith("labels/train/b.txt")
    assert report.statistics["splits"]["train"]["annotations"] == 8


def test_every_broken_record_of_a_voc_folder(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    convert(data, folder, target_format="voc")
    assert not [p for p in check(folder).problems if p.severity != "info"]
    first = folder / "Annotations" / "a.xml"
    first.write_text(first.read_text().replace("<xmin>", "<xmin>x", 2).replace("cat", "cow", 1))
    (folder / "Annotations" / "c.xml").write_text("<annotation>")
    (folder / "Annotations" / "b.xml").rename(folder / "Annotations" / "d.xml")
    report = check(folder)
    assert [(p.code, Path(p.file).name, p.message[:9]) for p in report.problems] == [
        ("bad-object", "a.xml", "object 1:"),
        ("bad-object", "a.xml", "object 2 "),
        ("missing-xml", "train.txt", "'b' has n"),
        ("unreadable-xml", "c.xml", "not a who"),
        ("no-images", "val.txt", "names no "),
        ("few-boxes", "train.txt", "has only "),
        ("unused-category", "val.txt", "has no bo"),
        ("annotations-unread", "voc", "1 file of"),
    ]
    assert report.problems[-1].message.endswith(": Annotations/d.xml")


def test_problems_of_a_voc_folder_name_the_file_and_the_object(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    convert(data, folder, target_format="voc")
    path = folder / "Annotations" / "c.xml"
    path.write_text(path.read_text().replace("<xmax>", "<xmax>9", 1))
    found = [p for p in check(folder).problems if p.code == "box-outside"]
    assert [(p.file, p.record) for p in found] == [(str(path), "object 1")]


def test_a_split_without_images_is_an_error(data: Path) -> None:
    path = rewrite(data, "val", annotations([]))
    assert only_problem_of(check(data), "error") == ("no-images", str(path), "names no images")


def test_no_data_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        check(tmp_path / "none")
    with pytest.raises(InputError):
        check(tmp_path)
    with pytest.raises(InputError, match=r"none\.json: no such annotation file"):
        check_splits([Split("train", tmp_path / "none.json", tmp_path)])


def test_any_content_gets_an_answer(data: Path) -> None:
    raw = {"images": [{}, 3, {"file_name": "a\0.jpg"}], "annotations": [{}], "categories": [1]}
    rewrite(data, "val", raw)
    assert check(data).count("error") > 5
