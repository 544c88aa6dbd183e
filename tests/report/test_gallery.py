import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.report.gallery import EvaluatedSplit, choose_images, make_label_errors, make_pictures
from detnet.report.pictures import GalleryPicture
from detnet.report.run import _evaluate, _load
from detnet.training.detection.config import TrainConfig
from tests.report.runs import LONG_NAME, NAMES, ODD_NAME, write_data, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    return write_run(folder / "run", write_data(folder / "data"), masks=True)


@pytest.fixture(scope="module")
def evaluated(run: Path) -> EvaluatedSplit:
    loaded = _load(run / "evaluation")
    return _evaluate(*loaded)[0]


@pytest.fixture(scope="module")
def pictures(evaluated: EvaluatedSplit) -> list[GalleryPicture]:
    return make_pictures(evaluated, count=8)


def test_counts_are_those_of_the_diagnosis(
    evaluated: EvaluatedSplit, pictures: list[GalleryPicture]
) -> None:
    names = {evaluated.annotations.file_name(i): i for i in range(len(evaluated.annotations))}
    assert len(pictures) == len(names) == 8
    for picture in pictures:
        image_id = str(evaluated.annotations.image_ids[names[picture.name]])
        tally = evaluated.diagnosis["images"][image_id]
        assert picture.counts(0.5) == (tally["found"], tally["missed"], tally["false"])
    found, missed, false = (sum(p.counts(0.5)[i] for p in pictures) for i in range(3))
    assert found and missed and false


def test_a_higher_threshold_finds_less(pictures: list[GalleryPicture]) -> None:
    for picture in pictures:
        found, missed, false = picture.counts(0.99)
        assert (found, false) == (0, 0)
        assert missed == len(picture.truths)


def test_marks_are_where_the_file_has_them(run: Path, pictures: list[GalleryPicture]) -> None:
    data = Path(TrainConfig.read(run / "config.yaml").data)
    truth = json.loads((data / "annotations" / "instances_val.json").read_text())
    by_name = {image["file_name"]: image for image in truth["images"]}
    for picture in pictures:
        image = by_name[picture.name]
        boxes = [a["bbox"] for a in truth["annotations"] if a["image_id"] == image["id"]]
        assert len(boxes) == len(picture.truths)
        for box, mark in zip(boxes, picture.truths, strict=True):
            sides = (image["width"], image["height"])
            drawn = [mark.x * sides[0], mark.y * sides[1], mark.width * sides[0]]
            assert [*drawn, mark.height * sides[1]] == pytest.approx(box)
        scores = [mark.score for mark in picture.found]
        assert scores == sorted(scores), "the surest is drawn last"
        assert all(mark.mask is not None for mark in picture.truths)
    assert {LONG_NAME, ODD_NAME} <= {picture.name for picture in pictures}


def test_skeletons_are_where_the_file_has_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", write_data(tmp_path / "data", keypoints=True), keypoints=True)
    loaded = _load(run / "evaluation")
    truth = json.loads((tmp_path / "data/annotations/instances_val.json").read_text())
    by_name = {image["file_name"]: image for image in truth["images"]}
    lines = {one["id"]: len(one.get("skeleton", ())) for one in truth["categories"]}
    seen = 0
    for picture in make_pictures(_evaluate(*loaded)[0], count=8):
        image = by_name[picture.name]
        records = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        for record, mark in zip(records, picture.truths, strict=True):
            points = np.array(record.get("keypoints", ())).reshape(-1, 3)
            if not (points[:, 2] > 0).any():
                assert mark.skeleton is None
                continue
            assert mark.skeleton is not None
            sides = (image["width"], image["height"])
            expected = (points[points[:, 2] > 0, :2] + 0.5) / sides
            np.testing.assert_allclose(mark.skeleton.points, expected, atol=1e-6)
            if (points[:, 2] > 0).all():
                assert len(mark.skeleton.lines) == lines[record["category_id"]] > 0
            seen += 1
        found = [mark for mark in picture.found if mark.kind == "right"]
        assert {len(mark.skeleton.points) for mark in found if mark.skeleton} <= {1, 2, 3, 4}
    assert seen > 5


def tally(found: int, missed: int, false: int, ap: float | None = 0.5) -> dict[str, Any]:
    return {"found": found, "missed": missed, "false": false, "AP50": ap}


def test_images_are_chosen_by_what_they_show() -> None:
    tallies = {
        "1": tally(5, 0, 0, 1.0),
        "2": tally(0, 9, 0, 0.0),
        "3": tally(3, 0, 8, 0.4),
        "4": tally(1, 1, 1, 0.5),
        "5": tally(0, 0, 0, None),
        "6": tally(9, 0, 0, 1.0),
    }
    chosen = choose_images(tallies, 4)
    assert chosen == {"6": ["best"], "2": ["worst", "missed"], "3": ["false"], "1": []}
    everything = choose_images(tallies, 100)
    assert set(everything) == set(tallies) and everything["5"] == []
    assert choose_images(tallies, 0) == {} == choose_images({}, 5)


def test_label_errors_are_cut_out(evaluated: EvaluatedSplit) -> None:
    cuts = make_label_errors(evaluated, count=3)
    suspects = evaluated.diagnosis["label_errors"]
    assert len(cuts) == min(3, len(suspects)) > 0
    for cut, suspect in zip(cuts, suspects, strict=False):
        assert suspect["detected"] in cut.title and suspect["detected"] in NAMES
        assert ("nothing labelled" in cut.title) == (suspect["labelled"] is None)
        mark = cut.marks[-1]
        assert mark.kind == "false"
        centre = (mark.x + mark.width / 2, mark.y + mark.height / 2)
        assert all(0 < place < 1 for place in centre), "what is suspected is in the cut"


def test_missing_images_are_named(run: Path, evaluated: EvaluatedSplit) -> None:
    path = evaluated.annotations.image_path(3)
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        with pytest.raises(InputError, match=path.name):
            make_pictures(evaluated, count=8)
    finally:
        hidden.rename(path)
