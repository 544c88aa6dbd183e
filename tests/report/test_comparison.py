"""The page of a comparison: complete, escaped, and honest about what is missing."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detnet.evaluation.comparison.sources import Compared, compare_sources
from detnet.report.comparison import (
    ComparisonPicture,
    choose_images,
    make_pictures,
    render,
    write_output,
    write_page,
)
from detnet.report.comparison_view import found_by_one
from detnet.report.pictures import Mark, embed
from tests.report.runs import write_data, write_run
from tests.report.test_comparison_text import comparison
from tests.report.test_page import Checker


def picture(name: str = "a <b>.jpg") -> ComparisonPicture:
    uri, size = embed(Image.new("RGB", (120, 80), "teal"))
    there = [Mark("truth", 0.1 * n, 0.2, 0.2, 0.3, "<i>cat", -1.0) for n in range(3)]
    own = [Mark("right", 0.1 * n, 0.2, 0.2, 0.3, "<i>cat", 0.7 + n / 10) for n in range(2)]
    false = Mark("false", 0.7, 0.7, 0.1, 0.1, "dog", 0.2)
    return ComparisonPicture(
        name=name,
        uri=uri,
        size=size,
        kinds={"A-B": 1},
        sought=there[:1],
        shared=there[1:2],
        truths=there[2:],
        found=[own[:1], [false]],
        found_shared=[own[1:], own[1:]],
    )


def test_tables_say_which_overlaps_they_hold() -> None:
    told = "and the mean of .50, .55 … .95; differences"
    assert render(comparison(["a", "b"]), []).count(f"at IoU .50 to .85 {told}") == 2
    own = comparison(["a", "b"], iou_thresholds=[0.9])
    assert render(own, []).count(f"at IoU .50 to .90 {told}") == 2


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    found = comparison(["<s>one", "other"])
    found["notes"] = ["other: <few> results"]
    path = write_page(tmp_path / "page.html", found, [picture(), picture("b.jpg")])
    page = Checker(path.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 2
    for text in (
        "<s>one and other",
        "Boxes on 40 images of",
        "truth.json",
        "B − A: other less <s>one",
        "A finds, B misses2",
        "A finds none that B misses",
        "a <b>.jpg",
        "A finds 1 that B misses",
        "other: <few> results",
        "of the 24 differences by size and IoU can be told from noise",
        "200 paired bootstrap resamples",
        "a class of which the name says more than anyone can take in",
    ):
        assert text in page.text, text
    assert all(url.startswith(("data:", "#")) for url in page.addresses if url)


def test_without_pictures_and_with_three_detectors() -> None:
    found = comparison(["one", "two", "three"])
    cost = {"macs": 5e9, "body_macs": 3e9, "params": 9e6, "input_size": [240, 320]}
    found["cost"] = {
        "images": 4,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "models": [{**cost, "images_per_s": 3.14}, None, None],
    }
    page = Checker(render(found, []))
    assert "one, two, three" in page.text and "C − A: three less one" in page.text
    assert "Found by one" not in page.text and "img" not in page.tags
    assert "240×320" in page.text and "Measured here on 4 images" in page.text


def test_kinds() -> None:
    found = found_by_one(comparison(["one", "two", "three"]))
    assert [one.kind for one in found] == ["A-B", "B-A", "A-C", "C-A"]
    two = ComparisonPicture("", "", (1, 1), {"A-C": 2, "C-A": 1}, [], [], [], [], [])
    assert two.note == "A finds 2 that C misses; C finds 1 that A misses"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    data = write_data(place / "data", val=5)
    for name, kept in (("a", lambda n: n % 5), ("b", lambda n: n % 5 != 1)):
        results = write_run(place / name, data, masks=True) / "evaluation" / "results.json"
        records = json.loads(results.read_text())
        results.write_text(json.dumps([each for n, each in enumerate(records) if kept(n)]))
    return place


@pytest.fixture(params=["bbox", "segm"])
def compared(folder: Path, request: pytest.FixtureRequest) -> Compared:
    return compare_sources([folder / "a", folder / "b"], resamples=100, iou_type=request.param)


def test_everything_is_drawn_once(compared: Compared) -> None:
    pictures, notes = make_pictures(compared, count=4)
    assert notes == [] and {kind for p in pictures for kind in p.kinds} == {"A-B", "B-A"}
    truth = compared.ground_truth.truth
    ids = {name: image_id for image_id, name in compared.ground_truth.file_names.items()}
    for picture in pictures:
        objects = [*picture.sought, *picture.shared, *picture.truths]
        place = list(truth.image_ids).index(ids[picture.name])
        assert len(objects) == (truth.images == place).sum()
        assert len(picture.sought) == sum(picture.kinds.values())
        assert all(0 <= mark.x <= 1 and mark.x + mark.width <= 1.001 for mark in objects)
        masks = compared.comparison["iou_type"] == "segm"
        assert all(bool(mark.mask) == masks for mark in objects)
        for own in picture.found_shared:
            assert len(own) == len(picture.shared)
            assert all(mark.kind == "right" and mark.score >= 0.5 for mark in own)
        right = [
            sum(mark.kind == "right" and mark.score >= 0.5 for mark in own) for own in picture.found
        ]
        assert right == [picture.kinds.get("A-B", 0), picture.kinds.get("B-A", 0)]
    assert any(mark.kind == "false" for p in pictures for own in p.found for mark in own)


def test_keypoints_are_drawn_as_skeletons(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", val=5, keypoints=True)
    runs = [write_run(tmp_path / name, data, keypoints=True) for name in "ab"]
    results = runs[1] / "evaluation" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text())[::2]))
    compared = compare_sources(runs, resamples=100, iou_type="keypoints", sigmas=[0.3])
    pictures, notes = make_pictures(compared, count=4)
    assert notes == [] and pictures
    for picture in pictures:
        assert len(picture.sought) == sum(picture.kinds.values())
        assert all(mark.skeleton and mark.skeleton.lines for mark in picture.sought)
        right = [
            sum(mark.kind == "right" and mark.score >= 0.5 for mark in own) for own in picture.found
        ]
        assert right == [picture.kinds.get("A-B", 0), picture.kinds.get("B-A", 0)]
    found = [mark for picture in pictures for own in picture.found for mark in own]
    assert {len(mark.skeleton.points) for mark in found if mark.skeleton} == {3, 4}
    page = write_output(compared, tmp_path / "made", count=3).read_text(encoding="utf-8")
    assert 'class="skeleton"' in page and "Keypoints on 5 images" in page
    assert "At OKS .50" in page and "OKS by sigma 0.3" in page


def test_the_pictures_with_most_objects_take_turns(compared: Compared) -> None:
    pair = compared.comparison["pictures"][0]
    chosen = choose_images(compared.comparison, 1)
    first = [pair[key][0]["image_id"] for key in ("only_first", "only_other")]
    assert list(chosen) == list(dict.fromkeys(first))
    assert choose_images(compared.comparison, 0) == {}


def test_without_images_there_is_a_note(folder: Path, tmp_path: Path) -> None:
    truth = folder / "data" / "annotations" / "instances_val.json"
    alone = tmp_path / "truth.json"
    alone.write_text(truth.read_text())
    files = [folder / name / "evaluation" / "results.json" for name in "ab"]
    compared = compare_sources(files, annotations=alone, resamples=100)
    page = write_output(compared, tmp_path / "made" / "here", count=3)
    assert "no pictures: " in page.read_text(encoding="utf-8")
    written = json.loads((page.parent / "comparison.json").read_text())
    assert written == json.loads(json.dumps(compared.comparison))
    assert written["notes"][0].startswith("no pictures: ")
    named = compare_sources(files, annotations=alone, images=folder / "data" / "val", resamples=100)
    pictures, notes = make_pictures(named, count=3)
    assert pictures and not notes
