"""A run's page from its folder and its data, and without them."""

import json
import re
import shutil
from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.report.pictures import GalleryPicture, Mark
from detnet.report.run import find_out, first_threshold, follow_page, make_page
from detnet.training.settings import presets, read_source
from tests.report.runs import LONG_NAME, NAMES, log, write_data, write_run
from tests.report.test_page import Checker


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pages") / "data")


def test_everything_is_on_the_page(data: Path, tmp_path: Path) -> None:
    path = make_page(write_run(tmp_path / "run", data, masks=True), count=6)
    content = path.read_text(encoding="utf-8")
    page = Checker(content)
    for title in ("Boxes", "Masks", "Pictures", "Why it errs", "Labels to look at", "Training"):
        assert title in page.text
    assert content.count("<figure") >= 6
    assert page.text.count("What is taken for what") == 2, "for boxes and for masks"
    assert len(content) < 1_000_000


@pytest.mark.parametrize(
    ("scores", "objects", "first"),
    [
        ((0.9, 0.8, 0.3), 4, 0.5),
        ((0.9, 0.31, 0.3), 4, 0.3),
        ((0.12, 0.12, 0.06), 6, 0.05),
        ((0.3,), 0, 0.3),
        ((), 3, 0.5),
    ],
)
def test_the_slider_begins_where_something_is_seen(
    scores: tuple[float, ...], objects: int, first: float
) -> None:
    def marks(kind: str, values: tuple[float, ...]) -> list[Mark]:
        return [Mark(kind, 0, 0, 1, 1, "cat", value) for value in values]

    truths = marks("truth", (-1.0,) * objects)
    picture = GalleryPicture("a.jpg", "", (30, 20), (), truths, marks("right", scores), "")
    assert first_threshold([picture]) == first


def test_what_is_taken_for_what_counts_from_the_score_of_the_pictures(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    run = write_run(tmp_path / "run", data, masks=True)
    path = run / "evaluation" / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps([one | {"score": one["score"] / 2.6} for one in results]))
    content = make_page(run, count=8).read_text(encoding="utf-8")
    (first,) = re.findall(r'<output for="threshold">(0\.[0-9]+)</output>', content)
    assert float(first) < 0.4
    told = re.findall(r"what was detected, from score (0\.[0-9]+)", Checker(content).text)
    assert told == [first, first], "of boxes and of masks"
    found, _, _ = find_out(run, count=8).diagnoses[0][1]["confusion"]["matrix"][0][:3]
    assert found > 0, "on the diagonal: what the pictures show as found"


def test_keypoints_are_on_the_page(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", keypoints=True)
    run = write_run(tmp_path / "run", data, keypoints=True)
    content = make_page(run, count=6).read_text(encoding="utf-8")
    page = Checker(content)
    for text in (
        "Keypoints by overlap and size",
        "Keypoints by class",
        "Percent, at OKS .50 to .85",
        "Average precision of keypoints on val",
        "best AP 25.0 at iteration 59",
    ):
        assert text in page.text, text
    assert "Masks" not in page.text
    skeletons = re.findall(r'<svg class="skeleton".*?<path d="([^"]*)".*? d="([^"]*)"', content)
    assert len(skeletons) > 6
    for bones, dots in skeletons:
        assert bones.count("L") == bones.count("M") and dots.count("h0") == dots.count("M") >= 1
    boxes = write_run(tmp_path / "boxes", data)
    assert 'class="skeleton"' not in make_page(boxes, count=6).read_text(encoding="utf-8")


def test_names_cannot_break_the_page(data: Path, tmp_path: Path) -> None:
    content = make_page(write_run(tmp_path / "run", data)).read_text(encoding="utf-8")
    text = Checker(content).text
    for name in (*NAMES, LONG_NAME):
        assert name in text
    assert "<script>alert" not in content and "</style><b>x" not in content
    assert len(re.findall("</style>", content)) == 1
    curves = re.search(r'id="curves">(.*?)</script>', content, re.DOTALL)
    assert curves and len(json.loads(curves[1])[0]) == 1 + len(NAMES)


def test_without_the_data_it_says_so(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    run = write_run(tmp_path / "run", copy)
    for image in (copy / "val").iterdir():
        image.unlink()
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "No pictures: " in text and "no such image file" in text
    assert "Why it errs" in text, "the annotations are still there"
    shutil.rmtree(copy)
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "No pictures and no diagnosis: " in text and str(copy) in text
    assert "Why it errs" not in text and "Boxes by overlap and size" in text


def test_without_an_evaluation_it_offers_the_command(data: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "a run", data)
    shutil.rmtree(run / "evaluation")
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert f"detnet evaluate '{run}' --data DATA" in text
    assert "Loss" in text and "Settings of the run" in text


def test_a_run_without_a_split_of_its_own_shows_its_latest_evaluation(
    data: Path, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", data, val_split="none")
    written = [run / "evaluation" / name for name in ("scores.json", "results.json")]
    place = run / "evaluation" / "data-val"
    place.mkdir()
    for file in written:
        file.rename(place / file.name)
    page = Checker(make_page(run, count=4).read_text(encoding="utf-8"))
    assert "Not evaluated yet" not in page.text
    assert "scored on data-val" in page.text
    assert "Pictures" in page.text and "Why it errs" in page.text


def test_results_of_other_data_are_told(data: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data)
    path = run / "evaluation" / "results.json"
    path.write_text(path.read_text().replace('"image_id":1,', '"image_id":12345,'))
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "No pictures and no diagnosis" in text and "12345" in text


def test_no_detections_at_all(data: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data)
    (run / "evaluation" / "results.json").write_text("[]")
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "There are no detections" in text and "0 found" in text


def test_the_papers_numbers_stand_beside_those_of_its_preset(data: Path, tmp_path: Path) -> None:
    name = "detnet59_faster_rcnn_fpn_2x"
    preset = read_source(name, presets())
    run = write_run(tmp_path / "run", data, **preset, preset=name, epochs=None)
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "AP · paper 40.2" in text and "66.4" in text and "Table 4" in text
    plain = write_run(tmp_path / "plain", data)
    assert "paper" not in Checker(make_page(plain).read_text(encoding="utf-8")).text


def test_a_page_follows_its_run(data: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data)
    shutil.move(run / "evaluation", tmp_path / "later")
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:5]))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            log(run, [{"event": "step", "iteration": 6, "loss": 1.0}])
        if len(waits) == 3:
            shutil.move(tmp_path / "later", run / "evaluation")
        if len(waits) == 4:
            log(run, [{"event": "end", "iteration": 6, "seconds": 1.0}])
        assert len(waits) < 5, "the run has ended"

    pages = [
        page.read_text(encoding="utf-8") for page in follow_page(run, every=7, wait=wait, count=2)
    ]
    assert len(pages) == 4, "the second look found nothing new"
    assert ["location.reload" in page for page in pages] == [True, True, True, False]
    assert ['content="7"' in page for page in pages] == [True, True, True, False]
    assert ["<figure" in page for page in pages] == [False, False, True, True]
    assert waits == [7, 7, 7, 7]


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        make_page(tmp_path / "gone")
    with pytest.raises(InputError, match="gone"):
        next(follow_page(tmp_path / "gone", every=1))


@pytest.mark.parametrize("kept", [("categories", "images"), ("categories",)])
def test_nothing_to_find(data: Path, tmp_path: Path, kept: tuple[str, ...]) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    run = write_run(tmp_path / "run", copy)
    path = copy / "annotations" / "instances_val.json"
    content = {
        key: value if key in kept else [] for key, value in json.loads(path.read_text()).items()
    }
    path.write_text(json.dumps(content))
    if "images" not in kept:
        (run / "evaluation" / "results.json").write_text("[]")
    text = Checker(make_page(run).read_text(encoding="utf-8")).text
    assert "Boxes" in text and "Training" in text
    assert ("0 found, 0 missed" in text) == ("images" in kept)


def test_without_a_script_weak_detections_are_hidden(data: Path, tmp_path: Path) -> None:
    content = make_page(write_run(tmp_path / "run", data)).read_text(encoding="utf-8")
    marks = re.findall(r'class="mark (\w+)( \w+)?" data-score="([\d.-]+)"', content)
    gallery = [mark for mark in marks if mark[0] != "crowd"]
    assert {"weak", "missed"} <= {state.strip() for _, state, _ in gallery}
    assert all(float(score) < 0.5 for _, state, score in gallery if state)
