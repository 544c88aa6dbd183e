"""One label file: what its lines say, and what is said of those that cannot be read."""

from pathlib import Path

import pytest

from detnet.data.formats.interchange import Flaws, LabelledBox, Picture
from detnet.data.formats.yolo_labels import label_file, read_labels


def read(folder: Path, text: str, keypoints: int = 0) -> tuple[list[LabelledBox], list[str]]:
    """The boxes of a picture of 60x40, and what was noted."""
    path, flaws = folder / "a.txt", Flaws(folder)
    path.write_text(text, encoding="utf-8")
    picture = Picture(folder / "a.jpg", "a.jpg", 60, 40)
    boxes = read_labels(path, picture, ["dog", "1st"], keypoints, flaws)
    return boxes, [problem.message for problem in flaws.found]


@pytest.mark.parametrize("line", ["0 30 20 15 10", "0 0.5 20 0.1 0.1", "0 -5 0.5 0.1 0.1"])
def test_pixels_are_no_fractions(tmp_path: Path, line: str) -> None:
    outline = "0 0.1 0.1 50 0.1 0.5 0.6"
    boxes, noted = read(tmp_path, f"0 0.5 0.5 0.5 0.25\n{line}\n{outline}\n")
    assert boxes == [LabelledBox("dog", (15, 15, 30, 10))]
    number = next(text for text in line.split()[1:] if abs(float(text)) > 2)
    assert noted == [
        f"line 2: {number} is no fraction of the image; its coordinates look like pixels",
        "line 3: 50 is no fraction of the image; its coordinates look like pixels",
    ]


def test_labels_lie_in_the_last_folder_of_images_put_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("labels/a.txt", "images/labels/b.v2.txt", "images/x/images.txt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    for image, expected in (
        ("images/a.jpg", "labels/a.txt"),
        (tmp_path / "images/images/b.v2.jpg", tmp_path / "images/labels/b.v2.txt"),
        ("images/b.jpg", "images/b.txt"),
        ("images/x/images.jpg", "images/x/images.txt"),
        ("images.jpg", "images.txt"),
        ("myimages/a.jpg", "myimages/a.txt"),
    ):
        assert label_file(Path(image)) == Path(expected)


def test_a_box_may_reach_far_out_of_its_image(tmp_path: Path) -> None:
    boxes, noted = read(tmp_path, "0 1.00001 0.5 0.5 0.25\n0 -0.5 1.9 2 0.1\n")
    assert (len(boxes), noted) == (2, [])
    assert boxes[1].box == (-90, 74, 120, 4)


def test_keypoints_in_pixels_are_left_aside(tmp_path: Path) -> None:
    assert read(tmp_path, "0 0.5 0.5 0.5 0.25 30 20\n", keypoints=2)[1] == []


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("dog", "class 'dog' is a name; YOLO's labels have its number, 0"),
        ("1st", "class '1st' is a name; YOLO's labels have its number, 1"),
        ("Cow", "class 'Cow' is a name, and none of those known; YOLO's labels have its number"),
        ("0,0.5", "'0,0.5' is not a number of pixels or a fraction"),
        ("nan", "'nan' is not a number of pixels or a fraction"),
    ],
)
def test_a_class_by_its_name(tmp_path: Path, label: str, message: str) -> None:
    assert read(tmp_path, f"{label} 0.5 0.5 0.5 0.25\n") == ([], [f"line 1: {message}"])
