"""VOC's XML files, by hand, and against hotcoco's reading where that is right."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from detnet.data.formats.convert import _set, write_coco, write_voc
from detnet.data.formats.interchange import LabelledBox
from detnet.data.formats.voc_xml import annotated_size, read_list, read_voc
from detnet.errors import InputError


def xml(name: str, *objects: str, size: str = "<width>60</width><height>40</height>") -> str:
    parts = f"<filename>{name}</filename><size>{size}<depth>3</depth></size>{''.join(objects)}"
    return f"<annotation>{parts}</annotation>"


def thing(name: str, corners: tuple[float, float, float, float], extra: str = "") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{inner}</bndbox></object>"


def put(folder: Path, stem: str, text: str | None, *, inside: str = "VOC") -> None:
    """Writes an image of 60x40, and its XML unless that is None."""
    images, labels = {
        "VOC": ("JPEGImages", "Annotations"),
        "flat": ("", ""),
        "kangaroo": ("images", "annots"),
    }.get(inside, (inside, inside))
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40)).save(folder / images / f"{stem}.jpg")
    if text is not None:
        (folder / labels / f"{stem}.xml").write_text(text, encoding="utf-8")


def list_split(folder: Path, **stems: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for split, names in stems.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names.split()))


def test_pixels_count_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    put(tmp_path, "a", xml("a.jpg", thing("dog", (1, 1, 60, 40)), thing("cat", (11.5, 6, 30, 25))))
    pictures = read_voc(tmp_path)
    assert pictures.classes == ["cat", "dog"]
    assert pictures.splits["train"][0].boxes == [
        LabelledBox("dog", (0, 0, 60, 40)),
        LabelledBox("cat", (10.5, 5, 19.5, 20)),
    ]
    assert pictures.notes == []


def test_lists_may_name_images_in_folders(tmp_path: Path) -> None:
    put(tmp_path, "1", xml("1.jpg", thing("cat", (1, 1, 9, 9))))
    for folder, size in (("a", (60, 40)), ("b", (50, 30)), ("bare", (20, 10))):
        for part in ("JPEGImages", "Annotations"):
            (tmp_path / part / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / "JPEGImages" / folder / "1.jpg")
        text = xml("1.jpg", thing(folder, (1, 1, 9, 9)), size="")
        if folder != "bare":
            (tmp_path / "Annotations" / folder / "1.xml").write_text(text)
    list_split(tmp_path, train="a/1 1 bare/1", val="b/1")
    pictures = read_voc(tmp_path)
    seen = [(p.path.parent.name, p.width, [b.name for b in p.boxes]) for p in pictures.pictures]
    assert seen == [
        *(("a", 60, ["a"]), ("JPEGImages", 60, ["cat"])),
        *(("bare", 20, []), ("b", 50, ["b"])),
    ]
    assert pictures.notes == []


def test_folders_above_both_count_before_those_of_one_name(tmp_path: Path) -> None:
    for name, size in (("train/a.jpg", (60, 40)), ("val/xml/a.jpg", (50, 30))):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "train" / "xml").mkdir()
    text = xml("a.jpg", thing("dog", (1, 1, 9, 9)), size="")
    (tmp_path / "train" / "xml" / "a.xml").write_text(text)
    assert [p.width for p in read_voc(tmp_path).pictures] == [60]


def test_hidden_files_are_none_of_the_data(tmp_path: Path) -> None:
    put(tmp_path, "a", xml("a.jpg", thing("dog", (1, 1, 9, 9))), inside="kangaroo")
    for name in (".idea/workspace.xml", "annots/._a.xml", "images/._a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    pictures = read_voc(tmp_path)
    assert ([p.name for p in pictures.pictures], pictures.notes) == (["a.jpg"], [])


def test_folders_of_one_name_belong_together(tmp_path: Path) -> None:
    for folder, size in (("a", (60, 40)), ("b", (50, 30))):
        images, labels = tmp_path / "images" / folder, tmp_path / "labels" / "xml" / folder
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.new("RGB", size).save(images / "1.jpg")
        (labels / "1.xml").write_text(xml("1.jpg", thing(folder, (1, 1, 9, 9)), size=""))
    seen = [(p.width, p.boxes[0].name) for p in read_voc(tmp_path).pictures]
    assert seen == [(60, "a"), (50, "b")]


def test_zero_based(tmp_path: Path) -> None:
    put(tmp_path, "a", xml("a.jpg", thing("dog", (0, 0, 60, 40))))
    assert read_voc(tmp_path, zero_based=True).pictures[0].boxes[0].box == (0, 0, 60, 40)
    assert "1 boxes start before the first pixel" in read_voc(tmp_path).notes[0]


def test_difficult_objects_are_ignored_or_kept(tmp_path: Path) -> None:
    hard = thing("dog", (1, 1, 9, 9), "<difficult>1</difficult>")
    easy = thing("dog", (1, 1, 9, 9), "<difficult>0</difficult>")
    put(tmp_path, "a", xml("a.jpg", hard, easy))
    pictures = read_voc(tmp_path)
    assert [box.crowd for box in pictures.pictures[0].boxes] == [True, False]
    assert pictures.notes[0].startswith("marked 1 difficult objects as crowds")
    kept = read_voc(tmp_path, keep_difficult=True)
    assert [box.crowd for box in kept.pictures[0].boxes] == [False, False]
    assert kept.notes == []


@pytest.mark.parametrize(
    ("text", "difficult"),
    [("1", True), ("true", True), ("0", False), ("", False), ("Unspecified", False)],
)
def test_what_nobody_called_difficult_is_an_object(
    tmp_path: Path, text: str, difficult: bool
) -> None:
    put(tmp_path, "a", xml("a.jpg", thing("dog", (1, 1, 9, 9), f"<difficult>{text}</difficult>")))
    assert [box.crowd for box in read_voc(tmp_path).pictures[0].boxes] == [difficult]


def test_parts_of_objects_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    put(tmp_path, "a", xml("a.jpg", thing("person", (1, 1, 9, 9), part)))
    pictures = read_voc(tmp_path)
    assert pictures.classes == ["person"]
    assert pictures.pictures[0].boxes[0].box == (0, 0, 9, 9)


@pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>"])
def test_a_size_not_given_is_the_images(tmp_path: Path, size: str) -> None:
    put(tmp_path, "a", xml("a.jpg", thing("dog", (1, 1, 9, 9)), size=size))
    picture = read_voc(tmp_path).pictures[0]
    assert (picture.width, picture.height) == (60, 40)


def test_a_wrong_size_is_kept_for_check_to_find(tmp_path: Path) -> None:
    size = "<width>61</width><height>40</height>"
    put(tmp_path, "a", xml("a.jpg", thing("dog", (1, 1, 9, 9)), size=size))
    assert read_voc(tmp_path).pictures[0].width == 61


def test_splits_of_image_sets(tmp_path: Path) -> None:
    for stem in "abcd":
        put(tmp_path, stem, None if stem == "b" else xml("x.jpg", thing("dog", (1, 1, 9, 9))))
    Image.new("P", (60, 40)).save(tmp_path / "JPEGImages" / "e.png")
    (tmp_path / "SegmentationClass").mkdir()
    Image.new("P", (60, 40)).save(tmp_path / "SegmentationClass" / "a.png")
    list_split(tmp_path, train="a b", val="c", dog_train="a")
    pictures = read_voc(tmp_path)
    names = {split: [p.name for p in members] for split, members in pictures.splits.items()}
    assert names == {"train": ["a.jpg", "b.jpg"], "val": ["c.jpg"]}
    assert pictures.splits["train"][1].boxes == []  # listed, without an XML file
    assert pictures.notes == ["left out 1 XML files that ImageSets/Main does not list"]


def test_folders_above_the_data_set_say_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "Segmentation tools" / "own"
    put(folder, "a", xml("a.jpg", thing("dog", (1, 1, 9, 9))))
    (folder / "SegmentationClass").mkdir()
    Image.new("P", (60, 40)).save(folder / "SegmentationClass" / "a.png")
    (picture,) = read_voc(folder).pictures
    assert picture.path == folder / "JPEGImages" / "a.jpg"


def test_listed_names_may_hold_blanks(tmp_path: Path) -> None:
    for stem in ("photo (1)", "photo (2)", "photo 1"):
        put(tmp_path / "in", stem, xml(f"{stem}.jpg", thing("dog", (1, 1, 9, 9))))
    list_split(tmp_path / "in", train="")
    lists = tmp_path / "in" / "ImageSets" / "Main"
    (lists / "train.txt").write_text("photo (1)\nphoto 1  1\n")
    (lists / "val.txt").write_text("photo (2)  1\n")
    first = read_voc(tmp_path / "in")
    write_voc(first, tmp_path / "out")
    assert (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text() == "photo (2)\n"
    for pictures in (first, read_voc(tmp_path / "out")):
        found = {split: [p.name for p in members] for split, members in pictures.splits.items()}
        assert found == {"train": ["photo (1).jpg", "photo 1.jpg"], "val": ["photo (2).jpg"]}
        assert all(len(picture.boxes) == 1 for picture in pictures.pictures)


def test_trainval_stands_in_for_train(tmp_path: Path) -> None:
    put(tmp_path, "a", xml("a.jpg"))
    list_split(tmp_path, trainval="a")
    assert list(read_voc(tmp_path).splits) == ["train"]


def test_splits_as_folders_may_repeat_names(tmp_path: Path) -> None:
    put(tmp_path, "1", xml("1.jpg", thing("dog", (1, 1, 9, 9))), inside="train")
    put(tmp_path, "1", xml("1.jpg", thing("cat", (1, 1, 9, 9))), inside="valid")
    pictures = read_voc(tmp_path)
    found = {s: (ps[0].path.parent.name, ps[0].boxes[0].name) for s, ps in pictures.splits.items()}
    assert found == {"train": ("train", "dog"), "val": ("valid", "cat")}


@pytest.mark.parametrize("inside", ["flat", "kangaroo"])
def test_other_layouts_are_all_train(tmp_path: Path, inside: str) -> None:
    put(tmp_path, "a", xml("a.jpg"), inside=inside)
    put(tmp_path, "b", None, inside=inside)
    pictures = read_voc(tmp_path)
    assert [p.name for p in pictures.splits["train"]] == ["a.jpg"]
    assert pictures.notes == ["left out 1 images without an XML file"]


def test_an_image_found_by_the_name_in_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a", None)
    (tmp_path / "Annotations" / "label7.xml").write_text(xml("C:\\photos\\a.jpg"))
    assert read_voc(tmp_path).pictures[0].path.name == "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "a.xml: not a whole XML file"),
        ("<svg/>", "a.xml: not a VOC annotation: starts with <svg>"),
        (xml("a.jpg", "<object></object>"), "a.xml: object 1: has no <name>"),
        (xml("a.jpg", "<object><name>dog</name></object>"), "object 1 (dog): has no <xmin>"),
        (
            xml("a.jpg", thing("dog", (1, 1, 9, 9)), thing("cat", ("x", 1, 9, 9))),  # type: ignore[arg-type]
            "object 2 (cat): 'x' is not a number",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "a", text)
    with pytest.raises(InputError) as caught:
        read_voc(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    put(tmp_path, "a", xml("a.jpg"))
    list_split(tmp_path, train="a zebra")
    with pytest.raises(InputError, match=r"train\.txt: 'zebra' has neither"):
        read_voc(tmp_path)
    list_split(tmp_path, train="a")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.xml: .* has no image"):
        read_voc(tmp_path)


def test_several_sets_at_once_are_refused(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        put(tmp_path / year, "a", xml("a.jpg"))
        list_split(tmp_path / year, train="a")
    with pytest.raises(InputError, match="VOC2007, .*VOC2012"):
        read_voc(tmp_path)


def test_written_and_read_again(tmp_path: Path) -> None:
    boxes = thing("dog", (1, 1, 60, 40)) + thing("bird", (11.5, 6.25, 30, 25))
    put(tmp_path / "in", "a", xml("a.jpg", boxes))
    put(tmp_path / "in", "b", xml("b.jpg", thing("dog", (3, 4, 5, 6), "<difficult>1</difficult>")))
    list_split(tmp_path / "in", train="a", val="b")
    (tmp_path / "in" / "labels.txt").write_text("fish\ndog\nbird\n")
    first = read_voc(tmp_path / "in")
    assert first.classes == ["fish", "dog", "bird"]
    assert write_voc(first, tmp_path / "out") == {"train": 2, "val": 1}
    second = read_voc(tmp_path / "out")
    assert second.classes == first.classes
    for split in ("train", "val"):
        assert [p.boxes for p in second.splits[split]] == [p.boxes for p in first.splits[split]]


def test_equal_to_hotcoco_where_that_reads_all(tmp_path: Path) -> None:
    import hotcoco

    for number, stem in enumerate("abc"):
        hard = f"<difficult>{number % 2}</difficult>"
        put(tmp_path, stem, xml(f"{stem}.jpg", thing("dog", (1 + number, 2, 30, 40), hard)))
    theirs = hotcoco.COCO.from_voc(str(tmp_path)).dataset
    write_coco(read_voc(tmp_path), tmp_path / "out")
    text = (tmp_path / "out" / "annotations" / "instances_train.json").read_text()
    ours = hotcoco.COCO(json.loads(text)).dataset
    for key in ("images", "annotations", "categories"):
        assert ours[key] == theirs[key]


def test_a_size_of_thousands_of_digits_is_nonsense() -> None:
    root = ElementTree.fromstring(
        f"<annotation><size><width>{'9' * 5000}</width><height>4</height></size></annotation>"
    )
    assert annotated_size(root) is None


def test_a_name_that_xml_cannot_hold_is_refused() -> None:
    parent = ElementTree.Element("object")
    _set(parent, "name", "cat\tmère \U0001f408")
    for name in ("a\x01b", "c\x0bd", "\ufffe"):
        with pytest.raises(InputError, match="name .*: XML cannot hold the character"):
            _set(parent, "name", name)
    assert [child.text for child in parent] == ["cat\tmère \U0001f408"]


def test_lines_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "dog_train.txt"
    path.write_text("000005  1\n000007 -1\n\n000009  0\n000005  1\n a (1)  1\na (2) -1\nb 2\n")
    assert read_list(path) == ["000005", "000009", "a (1)", "b 2"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"dog_train\.txt: no text in UTF-8"):
        read_list(path)
