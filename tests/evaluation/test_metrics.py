"""One list of metrics; one that a plugin registers is shown wherever COCO's are."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from detnet.cli import main
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.evaluation.coco import evaluate
from detnet.evaluation.grid import make_grid
from detnet.evaluation.metrics import METRICS, Metric, column_names, names_of
from detnet.plugins import load_plugins, loaded_plugins
from detnet.report.run import make_page
from tests.report.runs import write_data, write_run

BOXES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
POINTS = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no name behind."""
    known = dict(METRICS._homes)
    monkeypatch.setattr("detnet.plugins._loaded", dict.fromkeys(loaded_plugins()))
    yield
    METRICS._homes.clear()
    METRICS._homes.update(known)


@pytest.fixture
def plugin(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.delitem(__import__("sys").modules, "tests.plugins.my_metric", raising=False)
    yield ["--plugin", f"{Path(__file__).parents[2]}:tests.plugins.my_metric"]


def test_names_are_cocos_in_their_order() -> None:
    assert names_of("bbox") == names_of("segm") == BOXES
    assert names_of("keypoints") == POINTS
    assert column_names(["bbox", "segm", "keypoints"]) == [
        *BOXES,
        *(f"segm_{name}" for name in BOXES),
        *(f"keypoints_{name}" for name in POINTS),
    ]
    assert column_names(["classification"]) == ["top1", "top5"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("AP", "bbox", "average precision, mean over IoU .50 to .95"),
        ("AP75", "keypoints", "average precision at OKS .75"),
        ("ARs", "segm", "average recall, small objects"),
        ("AR10", "bbox", "average recall, 10 results an image"),
        ("top1_error", "classification", "top-1 error"),
    ],
)
def test_what_a_name_stands_for(name: str, kind: str, words: str) -> None:
    assert METRICS[name].in_words(kind) == words


@pytest.mark.usefixtures("forgotten")
def test_one_beyond_cocos_grid() -> None:
    METRICS.register("AP92", Metric("AP", ("bbox",), iou_threshold=0.92))
    grid = make_grid()
    assert grid.is_coco and grid.iou_thresholds[grid.headline["AP92"].thresholds[0]] == 0.92
    assert "92" not in grid.shown_thresholds and len(grid.headline["AP"].thresholds) == 10
    assert "AP92" not in make_grid("keypoints").headline
    METRICS.register("AR7", Metric("AR", ("bbox",), max_dets=7))
    with pytest.raises(ValueError, match="AR7: max_dets 7 is none of COCO's"):
        make_grid().headline  # noqa: B018


def test_a_function_of_what_is_found(plugin: list[str]) -> None:
    load_plugins(plugin[1:])
    boxes = [[0, 0, 10, 10], [20, 0, 10, 10], [0, 20, 10, 10]]
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": k, "bbox": box}
            for n, (k, box) in enumerate([(1, boxes[0]), (1, boxes[1]), (2, boxes[2])])
        ],
    }
    found = [(1, boxes[0], 0.9), (1, boxes[2], 0.8), (1, boxes[1], 0.7), (1, boxes[1], 0.6)]
    results = [{"image_id": 1, "category_id": k, "bbox": box, "score": s} for k, box, s in found]
    scores = evaluate(truth, results).scores()
    # Of a: one hit 2/3, three detections with two hits 4/5; nothing of b; no c to be found.
    assert [row["F1"] for row in scores.per_class.values()] == [pytest.approx(0.8), 0, None]
    assert scores.headline["F1"] == pytest.approx(0.4)


def test_a_plugins_metric_is_shown_wherever_cocos_are(
    plugin: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", val=4)
    runs = [write_run(tmp_path / name, data) for name in ("a", "b")]
    torch.manual_seed(0)
    model = create("retinanet", num_classes=4, width=0.125, min_size=64, max_size=96)
    truth = json.loads((data / "annotations" / "instances_val.json").read_text())
    model.info.categories = [{"id": c["id"], "name": c["name"]} for c in truth["categories"]]
    save_model(runs[0] / "model.safetensors", model)

    words = ["evaluate", str(runs[0] / "model.safetensors"), "--data", str(data), "--workers", "0"]
    assert main([*words, *plugin]) == 0
    assert "F1" in capsys.readouterr().out
    assert main([*words, "--json", "--output", str(runs[0] / "evaluation"), *plugin]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["F1"] <= 1 and "F1" in next(iter(scores["per_class"].values()))
    assert list(scores)[14] == "F1"  # behind COCO's twelve

    page = make_page(runs[0]).read_text()
    assert 'title="best F1 at .50"' in page and ">F1</button>" in page
    sources = [str(run / "evaluation" / "results.json") for run in runs]
    given = ["--annotations", str(data / "annotations" / "instances_val.json"), *plugin]
    made = ["--resamples", "100", "--output", str(tmp_path / "compared")]
    assert main(["compare", *sources, *given, *made]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert any(line[:1] == ["F1"] and "to" in line for line in lines)
    content = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    pair = content["differences"][0]["headline"]["F1"]
    assert np.isfinite([pair["low"], pair["high"]]).all() and pair["first"] == scores["F1"]
    shown = (tmp_path / "compared" / "comparison.html").read_text()
    assert "<h3>Further metrics</h3>" in shown and "<th>F1</th>" in shown
    assert "F1" in column_names(["bbox"])
