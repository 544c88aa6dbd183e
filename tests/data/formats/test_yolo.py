"""YOLO's label files, by hand, and against hotcoco's reading where that is right."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from detnet.coco.annotations import require_images
from detnet.data.check import check
from detnet.data.folders import find_split, find_splits
from detnet.data.formats import yolo
from detnet.data.formats.convert import convert, write_coco, write_yolo
from detnet.data.formats.interchange import LabelledBox, PictureSet, image_files
from detnet.data.formats.yolo import read_yolo
from detnet.data.reading import fingerprint_files, load_annotations
from detnet.errors import InputError

BOX = "0 0.5 0.5 0.5 0.25\n"  # of 60x40: 30 wide, 10 high, from 15, 15


def put(folder: Path, image: str, labels: str | None = BOX) -> None:
    """Writes an image of 60x40 and its labels, in …/labels/ if it lies in …/images/."""
    path = folder / image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40)).save(path)
    if labels is not None:
        target = (folder / image.replace("images", "labels")).with_suffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(labels)


def configure(folder: Path, text: str) -> None:
    (folder / "data.yaml").write_text(text)


def names(pictures: PictureSet) -> dict[str, list[str]]:
    return {split: [p.name for p in members] for split, members in pictures.splits.items()}


def test_boxes_and_outlines(tmp_path: Path) -> None:
    outline = "1 0.1 0.1 0.5 0.1 0.5 0.6\n"
    put(tmp_path, "images/a.jpg", BOX + "\n" + outline)
    configure(tmp_path, "train: images\nnames: [dog, cat]\n")
    pictures = read_yolo(tmp_path)
    assert pictures.classes == ["dog", "cat"]
    assert pictures.pictures[0].boxes == [
        LabelledBox("dog", (15, 15, 30, 10)),
        LabelledBox("cat", (6, 4, 24, 20), polygons=[[6, 4, 30, 4, 30, 24]]),
    ]


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (17, 3)])
def test_keypoints_are_left_aside(tmp_path: Path, shape: tuple[int, int]) -> None:
    put(tmp_path, "images/a.jpg", f"{BOX.strip()}{' 0.1' * shape[0] * shape[1]}\n")
    configure(tmp_path, f"train: images\nnames: [dog]\nkpt_shape: {list(shape)}\n")
    pictures = read_yolo(tmp_path)
    assert pictures.pictures[0].boxes == [LabelledBox("dog", (15, 15, 30, 10))]
    assert pictures.notes == ["left out the keypoints, keeping their boxes"]


def test_sizes_are_the_upright_images(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "a.jpg", exif=exif)
    configure(tmp_path, "train: images\nnames: [dog]\n")
    picture = read_yolo(tmp_path).pictures[0]
    assert (picture.width, picture.height) == (40, 60)
    assert picture.boxes[0].box == (10, 22.5, 20, 15)


def test_splits_of_the_yaml(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg")
    put(tmp_path, "images/val/a.jpg", None)  # no labels: no objects
    put(tmp_path, "images/more/b.jpg")
    configure(
        tmp_path,
        "path: /nowhere/else\ntrain: [images/train, images/more]\nval: images/val\n"
        "names: {0: dog, 1: cat}\n",
    )
    pictures = read_yolo(tmp_path)
    assert names(pictures) == {"train": ["a.jpg", "b.jpg"], "val": ["a.jpg"]}
    assert pictures.splits["val"][0].boxes == []


def test_an_export_whose_yaml_points_outside(tmp_path: Path) -> None:
    put(tmp_path, "train/images/a.jpg")
    put(tmp_path, "valid/images/b.jpg")
    configure(
        tmp_path,
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: [dog]\n",
    )
    pictures = read_yolo(tmp_path)
    assert names(pictures) == {"train": ["a.jpg"], "val": ["b.jpg"]}
    assert len(pictures.splits["val"][0].boxes) == 1
    assert pictures.notes[0].startswith("no test split: ")


def test_one_image_of_each_split_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[int | None] = []

    def listing(folder: Path, *, most: int | None) -> list[Path]:
        listings.append(most)
        return image_files(folder, most=most)

    monkeypatch.setattr(yolo, "image_files", listing)
    for name in "ab":
        put(tmp_path, f"images/train/{name}.png")
        put(tmp_path, f"images/val/{name}.png")
    configure(tmp_path, "names: [dog]\ntrain: images/train\nval: images/val\n")
    assert list(find_splits(tmp_path)) == ["train", "val"]
    assert find_split(tmp_path, "valid").name == "val"
    assert set(listings) == {1} and len(listings) == 10
    with pytest.raises(InputError, match="no annotations of the split 'test'; it has train, val"):
        find_split(tmp_path, "test")


def test_a_list_of_files(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    put(tmp_path, "images/b.jpg")
    (tmp_path / "train.txt").write_text("./images/b.jpg\n")
    configure(tmp_path, "train: train.txt\nnames: [dog]\n")
    pictures = read_yolo(tmp_path)
    assert names(pictures) == {"train": ["b.jpg"]}
    assert "left out 1 label files without an image" in pictures.notes[0]


def test_an_export_of_cvat(tmp_path: Path) -> None:
    for split in ("Train", "Validation"):
        for number in (1, 2):
            put(tmp_path, f"images/{split}/{split[0]}{number}.png")
        names_of = (f"data/images/{split}/{split[0]}{number}.png\n" for number in (1, 2))
        (tmp_path / f"{split}.txt").write_text("".join(names_of))
    configure(tmp_path, "Train: Train.txt\nValidation: Validation.txt\nnames:\n  0: dog\npath: .\n")
    pictures = read_yolo(tmp_path)
    assert names(pictures) == {"train": ["T1.png", "T2.png"], "val": ["V1.png", "V2.png"]}
    assert all(picture.boxes for picture in pictures.pictures)


def test_a_list_may_name_a_folder_data(tmp_path: Path) -> None:
    put(tmp_path, "data/a.jpg")
    (tmp_path / "train.txt").write_text("data/gone.jpg\ndata/a.jpg\n")
    configure(tmp_path, "train: train.txt\nnames: [dog]\n")
    with pytest.raises(
        InputError, match=r"data/gone\.jpg: the file does not exist; replace .*"
    ) as e:
        read_yolo(tmp_path)
    assert "more" not in str(e.value)


@pytest.mark.parametrize("folders", ["images/{}", "{}/images", "{}"])
def test_names_of_folders_may_begin_in_upper_case(tmp_path: Path, folders: str) -> None:
    put(tmp_path, f"{folders.format('Train')}/a.jpg")
    put(tmp_path, f"{folders.format('Valid')}/b.jpg")
    configure(tmp_path, "names: [dog]\n")
    assert names(read_yolo(tmp_path)) == {"train": ["a.jpg"], "val": ["b.jpg"]}


def test_hidden_files_are_none_of_the_data(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg")
    put(tmp_path, "images/train/.ipynb_checkpoints/a-checkpoint.jpg", None)
    (tmp_path / "images/train/._a.jpg").write_bytes(b"\0\5\x16\7")  # beside each file from a Mac
    (tmp_path / "labels/train/._a.txt").write_bytes(b"\0\5\x16\7")
    configure(tmp_path, "train: images/train\nnames: [dog]\n")
    pictures = read_yolo(tmp_path)
    assert (names(pictures), pictures.notes) == ({"train": ["a.jpg"]}, [])


def test_folders_above_the_data_set_say_nothing(tmp_path: Path) -> None:
    put(tmp_path / "labels" / "own", "a.jpg")
    configure(tmp_path / "labels" / "own", "names: [dog]\n")
    (tmp_path / "labels" / "own" / "readme.txt").write_text("hello\n")
    assert read_yolo(tmp_path / "labels" / "own").notes == []


def test_without_a_yaml(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg")
    put(tmp_path, "images/val/b.jpg")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    pictures = read_yolo(tmp_path)
    assert names(pictures) == {"train": ["a.jpg"], "val": ["b.jpg"]}
    assert pictures.classes == ["dog", "cat"]


@pytest.mark.parametrize("place", ["images/{}/{}", "{}/images/{}"])
def test_a_yaml_that_names_classes_alone(tmp_path: Path, place: str) -> None:
    put(tmp_path, place.format("train", "a.jpg"))
    put(tmp_path, place.format("val", "b.jpg"))
    (tmp_path / "test").mkdir()  # without an image: no split
    configure(tmp_path, "nc: 1\nnames: [dog]\n")
    assert names(read_yolo(tmp_path)) == {"train": ["a.jpg"], "val": ["b.jpg"]}
    configure(tmp_path, f"train: {place.format('train', '')}\nnames: [dog]\n")
    assert names(read_yolo(tmp_path)) == {"train": ["a.jpg"]}


def test_labels_beside_images(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "classes.txt").write_text("dog\n")
    pictures = read_yolo(tmp_path)
    assert pictures.splits["train"][0].boxes == [LabelledBox("dog", (15, 15, 30, 10))]


@pytest.mark.parametrize(
    ("config", "labels", "message"),
    [
        ("names: [dog", BOX, "data.yaml: not YAML"),
        ("names: {0: dog, 2: cat}", BOX, "numbered 0 to 1 without gaps"),
        ("nc: 2", BOX, "no class names"),
        ("train: photos\nnames: [dog]", BOX, "data.yaml: names 'photos', which is not there"),
        ("names: [dog]", "1 0.5 0.5 0.5 0.5", "a.txt: line 1: class 1 is not among the 1 names"),
        ("names: [dog]", BOX + "0.5 0.5 0.5 0.5 0.5", "line 2: class 0.5 is not among"),
        ("names: [dog]", "dog 0.5 0.5 0.5 0.5", "line 1: class 'dog' is a name;"),
        ("names: [dog]", "0 0.5 0.5 0.5", "line 1: 4 numbers"),
        ("names: [dog]", "0 0.5 0.5 0.5 0.5 0.9", "line 1: 6 numbers"),
        ("names: [dog]", "0 0.5 nan 0.5 0.5", "line 1: 'nan' is not a number"),
        ("names: [dog]\nkpt_shape: [2, 3]", BOX, "line 1: 5 numbers; by data.yaml's kpt_shape"),
        ("names: [dog]\nkpt_shape: [2, 2]", "0" + " 0.5" * 10, "line 1: 11 numbers; by data.yaml"),
        ("names: [dog]\nkpt_shape: 17", BOX, "data.yaml: kpt_shape must be as [17, 3]"),
        ("names: [dog]\nkpt_shape: [2, 4]", BOX, "data.yaml: kpt_shape must be as [17, 3]"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, config: str, labels: str, message: str) -> None:
    put(tmp_path, "images/a.jpg", labels)
    configure(tmp_path, config)
    with pytest.raises(InputError) as caught:
        read_yolo(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "looked"),
    [
        ("train: ../photos", "{0}/../photos, {0}/photos"),
        ("train: photos", "{0}/photos"),
        ("path: /data/x\ntrain: photos", "/data/x/photos, {0}/photos"),
        ("path: /data/x\ntrain: /photos", "/photos, {0}/photos"),
    ],
)
def test_a_wrong_path_tells_where_it_was_looked_for(
    tmp_path: Path, config: str, looked: str
) -> None:
    put(tmp_path, "images/a.jpg")
    configure(tmp_path, f"{config}\nnames: [dog]\n")
    with pytest.raises(InputError) as caught:
        read_yolo(tmp_path)
    where = looked.format(tmp_path)
    assert str(caught.value).endswith(f"which is not there; looked for {where}; correct the path")


def test_written_and_read_again(tmp_path: Path) -> None:
    put(tmp_path / "in", "images/train/a.jpg", BOX + "1 0.1 0.2 0.01 0.1\n")
    put(tmp_path / "in", "images/train/b.jpg", None)
    put(tmp_path / "in", "images/val/a.jpg")
    configure(tmp_path / "in", "train: images/train\nval: images/val\nnames: [dog, 'yes']\n")
    first = read_yolo(tmp_path / "in")
    assert write_yolo(first, tmp_path / "out") == {"train": 2, "val": 1}
    assert (tmp_path / "out" / "labels" / "train" / "a.txt").read_text() == (
        "0 0.5 0.5 0.5 0.25\n1 0.1 0.2 0.01 0.1\n"
    )
    second = read_yolo(tmp_path / "out")
    assert second.classes == ["dog", "yes"]
    assert names(second) == names(first)
    for split in ("train", "val"):
        assert [p.boxes for p in second.splits[split]] == [p.boxes for p in first.splits[split]]


def test_what_yolo_cannot_hold_is_left_out_and_said(tmp_path: Path) -> None:
    put(tmp_path / "in", "images/a.jpg")
    configure(tmp_path / "in", "names: [dog]\n")
    pictures = read_yolo(tmp_path / "in")
    pictures.pictures[0].boxes = [
        LabelledBox("dog", (50, 30, 20, 20)),  # reaches outside: cut at 60, 40
        LabelledBox("dog", (70, 30, 20, 20)),
        LabelledBox("dog", (0, 0, 9, 9), crowd=True),
        LabelledBox("dog", (0, 0, 60, 40), polygons=[[0, 0, 60, 0, 60, 40]]),
    ]
    assert write_yolo(pictures, tmp_path / "out") == {"train": 2}
    lines = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text().splitlines()
    assert lines == ["0 0.9166667 0.875 0.1666667 0.25", "0 0.5 0.5 1 1"]
    assert [note.split(":")[0] for note in pictures.notes] == [
        "left out 1 crowd annotations",
        "left out 1 boxes without a pixel inside their image",
        "left out 1 masks, keeping their boxes",
    ]


def test_equal_to_hotcoco_where_that_reads_all(tmp_path: Path) -> None:
    import hotcoco

    for number, stem in enumerate("abc"):
        put(tmp_path, f"images/{stem}.jpg", f"{number % 2} 0.5 0.5 0.{number + 1} 0.25\n")
    (tmp_path / "labels" / "data.yaml").write_text("nc: 2\nnames: [dog, cat]\n")
    configure(tmp_path, "train: images\nnames: [dog, cat]\n")
    theirs = hotcoco.COCO.from_yolo(str(tmp_path / "labels"), str(tmp_path / "images")).dataset
    write_coco(read_yolo(tmp_path), tmp_path / "out")
    text = (tmp_path / "out" / "annotations" / "instances_train.json").read_text()
    ours = hotcoco.COCO(json.loads(text)).dataset
    for image in ours["images"]:
        image["file_name"] = Path(image["file_name"]).stem  # hotcoco loses the suffix
    assert ours["images"] == theirs["images"]
    assert ours["categories"] == theirs["categories"]
    for mine, other in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert mine["category_id"] == other["category_id"]
        assert mine["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert mine["area"] == pytest.approx(other["area"], abs=0.1)


def test_problems_name_the_label_file_and_its_line(tmp_path: Path) -> None:
    twice = "0 0.1 0.1 0.1 0.1"
    put(tmp_path, "images/train/a.jpg", f"{BOX}\n0 1.5 0.5 0.1 0.1\n")
    put(tmp_path, "images/val/b.jpg", f"0 0.9 0.9 0.2 0.3 0.8 0.7\n{twice}\n{twice}\n")
    configure(tmp_path, "names: [dog]\n")
    found = [p for p in check(tmp_path, images=False).problems if p.severity == "warning"]
    labels = tmp_path / "labels"
    assert [(p.file, p.record, p.code) for p in found] == [
        (str(labels / "train" / "a.txt"), "line 3", "box-outside"),
        (str(labels / "val" / "b.txt"), "line 3", "box-twice"),
    ]
    assert found[1].message == "has the same box and class as line 2"


def test_remarks_on_classes_tell_the_split(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.jpg")
    put(tmp_path, "images/val/b.jpg", "1 0.5 0.5 0.5 0.5\n" * 2)
    configure(tmp_path, "names: [dog, cat]\n")
    found = [p for p in check(tmp_path, images=False).problems if p.severity == "info"]
    assert [(p.record, p.message) for p in found] == [
        ("category 1 (dog)", "has only 1 box in train"),
        ("category 2 (cat)", "has no boxes in train"),
        ("category 1 (dog)", "has no boxes in val"),
        ("category 2 (cat)", "has only 2 boxes in val"),
    ]
    alone = check(tmp_path, splits=["val"], images=False).problems
    assert [p.message for p in alone if p.code == "few-boxes"] == ["has only 2 boxes"]


def test_an_empty_label_file_is_another_thing_than_none(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", BOX * 10)
    put(tmp_path, "images/b.jpg", "")
    put(tmp_path, "images/c.jpg", None)
    configure(tmp_path, "names: [dog]\n")
    report = check(tmp_path, images=False)
    assert [(p.code, p.record, p.message) for p in report.problems if p.severity == "info"] == [
        ("image-without-annotations", "image 2 (images/b.jpg)", "has no annotations"),
        ("image-without-labels", "image 3 (images/c.jpg)", "has no label file"),
    ]
    assert report.statistics["splits"]["train"]["images_without_annotations"] == 2


@pytest.mark.parametrize("names", ["{0: dog, a: cat}", "{0: dog, 1.5: cat}", "{true: dog}"])
def test_class_numbers_of_several_kinds_are_one_line(names: str, tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    configure(tmp_path, f"train: images\nnames: {names}\n")
    with pytest.raises(InputError, match=r"data\.yaml: names must be numbered 0 to"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("names", ["[dog, [cat]]", "[dog, {a: b}]"])
def test_a_class_name_that_is_none_is_one_line(names: str, tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    configure(tmp_path, f"train: images\nnames: {names}\n")
    with pytest.raises(InputError, match=r"data\.yaml: a class name must be a text, found"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("file", ["labels/a.txt", "list.txt", "data.yaml", "classes.txt"])
def test_text_in_another_encoding_is_one_line(file: str, tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    (tmp_path / "list.txt").write_text("images/a.jpg\n")
    if file != "classes.txt":
        configure(tmp_path, "train: list.txt\nnames: [dog]\n")
    (tmp_path / file).write_bytes("0 0.5 0.5 0.5 0.25 \u00e9".encode("utf-16"))
    with pytest.raises(InputError, match=r"\.(txt: no text in UTF-8 .byte 0|yaml: not YAML)") as e:
        read_yolo(tmp_path)
    assert "\n" not in str(e.value)


def test_a_yaml_with_a_date_that_is_none_is_one_line(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    configure(tmp_path, "train: images\nnames: [dog]\nmade: 2001-99-99\n")
    with pytest.raises(InputError, match=r"data\.yaml: not YAML: month must be"):
        read_yolo(tmp_path)


def test_an_images_name_may_be_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xe9.png")
    put(tmp_path, f"images/train/{name}")
    configure(tmp_path, "names: [a]\ntrain: images/train\n")
    split = find_split(tmp_path, "train")
    assert len(fingerprint_files(split)) == 64
    convert(tmp_path, tmp_path / "coco")
    for each in (split, find_split(tmp_path / "coco", "train")):
        found, _ = load_annotations(each)
        assert found.file_name(0).endswith(name)
        require_images(found)
