"""Both engines' whole tables equal those of pycocotools run by hand on the untouched records."""

import contextlib
import copy
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.evaluation import engines
from detnet.evaluation.coco import evaluate
from detnet.evaluation.engines import ENGINES, engine_version
from detnet.evaluation.grid import Grid
from tests.evaluation.made_up_files import Case, random_case

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[3] / "shared" / "data"))


def by_hand(case: Case, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall as pycocotools' own documentation has them computed.

    Three of its traps are stepped around: annotation id 0, a missing area, and results whose masks
    are not compressed.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = copy.deepcopy(case.truth)
    for number, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = number
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        ground, nothing = COCO(), COCO()
        ground.dataset, nothing.dataset = truth, truth | {"annotations": []}
        for coco in (ground, nothing):
            coco.createIndex()
        results = copy.deepcopy(case.results)
        for result in results:
            if "segmentation" in result:
                result["segmentation"] = ground.annToRLE(result)
        evaluator = COCOeval(ground, ground.loadRes(results) if results else nothing, grid.iou_type)
        evaluator.params.iouThrs = np.array(grid.iou_thresholds)
        evaluator.params.areaRng = [list(limits) for limits in grid.areas.values()]
        evaluator.params.areaRngLbl = list(grid.areas)
        evaluator.params.maxDets = list(grid.max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


# A few seeds in the engine that is pycocotools itself, only to see that columns lose nothing.
@pytest.mark.parametrize(
    "engine, masks, seeds",
    [
        ("hotcoco", False, 320),
        ("hotcoco", True, 120),
        ("pycocotools", False, 20),
        ("pycocotools", True, 12),
    ],
)
def test_whole_tables_are_those_of_pycocotools(engine: str, masks: bool, seeds: int) -> None:
    partly, empty = 0, 0
    for seed in range(seeds):
        case = random_case(seed, masks=masks)
        before = copy.deepcopy(case)
        evaluation = evaluate(case.truth, case.results, engine=engine, **case.options)
        assert case == before
        precision, recall = by_hand(case, evaluation.grid)
        np.testing.assert_allclose(
            evaluation.tables.precision, precision, rtol=0, atol=1e-9, err_msg=f"seed {seed}"
        )
        np.testing.assert_allclose(
            evaluation.tables.recall, recall, rtol=0, atol=1e-9, err_msg=f"seed {seed}"
        )
        partly += bool(((precision > 0) & (precision < 1)).any())
        empty += bool((recall == -1).all())
    assert partly > seeds / 2 and empty >= seeds / 25  # the cases say something


def test_cases_hold_what_they_promise() -> None:
    cases = [random_case(seed) for seed in range(320)]
    annotations = [a for case in cases for a in case.truth["annotations"]]
    assert sum(not case.results for case in cases) > 20
    assert sum(a["iscrowd"] for a in annotations) > 200
    assert sum("area" not in a for a in annotations) > 100
    assert sum(a["area"] in (32.0**2, 96.0**2) for a in annotations if "area" in a) > 200
    assert sum(a["bbox"][2] == 0 for a in annotations) > 10
    crowded = 0
    for case in cases:
        keys = [(r["image_id"], r["category_id"]) for r in case.results]
        crowded += max(map(keys.count, set(keys)), default=0) > 100
        scores = [r["score"] for r in case.results]
        assert len(set(scores)) < max(len(scores), 2) or len(scores) < 40
    assert crowded > 10


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("results", {"bbox": [0, 0, float("nan"), 1]}, "found the list [0, 0, nan, 1]"),
    ("results", {"bbox": [0, 0, -1, 1]}, "bbox [0, 0, -1, 1] has a negative width"),
    ("results", {"bbox": ["0", "0", "1", "1"]}, "must be 4 finite numbers, found the list ['0'"),
    ("results", {"bbox": "0 0 1 1"}, "found the text '0 0 1 1'"),
    ("results", {"score": float("nan")}, "must be a finite number, found nan"),
    ("results", {"image_id": -5}, "image_id -5 is not among the ground truth's images"),
    ("results", {"category_id": -5}, "category_id -5 is not among the ground truth's categories"),
    ("annotations", {"bbox": [0, 0, float("nan"), 1]}, "must be 4 finite numbers"),
    ("annotations", {"area": float("nan")}, "must be a finite number, found nan"),
    ("annotations", {"bbox": [0, 0, 1, -1]}, "has a negative width or height"),
    ("annotations", {"image_id": -5}, "names image -5, which the file does not have"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("where, change, message", MISTAKES)
def test_mistakes_end_the_same(
    engine: str, where: str, change: dict[str, Any], message: str
) -> None:
    case = random_case(4)
    records = case.results if where == "results" else case.truth["annotations"]
    records[2] |= change
    with pytest.raises(InputError) as error:
        evaluate(case.truth, case.results, engine=engine)
    name = "results[2]" if where == "results" else f"annotation {records[2]['id']}"
    assert str(error.value).startswith(f"{where}: {name}") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> Any:
        raise ImportError("No module named 'hotcoco'")

    case = random_case(5)
    monkeypatch.setitem(engines.ENGINES, "hotcoco", absent)
    with pytest.raises(InputError, match="hotcoco is not usable here .*; use pycocotools"):
        evaluate(case.truth, case.results)
    monkeypatch.setitem(engines.ENGINES, "no-such-package", absent)
    with pytest.raises(InputError, match="no-such-package is not usable here"):
        engine_version("no-such-package")


@pytest.mark.slow
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_polygons_and_crowds(iou_type: str) -> None:
    file = DATA / "coco-masks" / "annotations" / "instances_val.json"
    if not file.is_file():
        pytest.skip(f"no {file}: set DETNET_DATA")
    truth = json.loads(file.read_text())
    random = np.random.default_rng(0)
    results = [moved(annotation, random) for annotation in truth["annotations"] for _ in range(2)]
    scored = {
        engine: evaluate(truth, results, iou_type=iou_type, engine=engine, max_dets=(300,))
        for engine in ENGINES
    }
    ours, theirs = (evaluation.tables for evaluation in scored.values())
    np.testing.assert_allclose(ours.precision, theirs.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.recall, theirs.recall, rtol=0, atol=1e-9)
    assert 0.1 < scored["hotcoco"].scores().headline["AP"] < 0.9


def moved(annotation: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The object some pixels away, with a score; a crowd where it is."""
    shift = random.normal(0, 3, 2).round(2).tolist()
    x, y, width, height = annotation["bbox"]
    mask = annotation["segmentation"]
    if isinstance(mask, list):
        mask = [(np.reshape(part, (-1, 2)) + shift).ravel().tolist() for part in mask]
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": [x + shift[0], y + shift[1], width, height],
        "segmentation": mask,
        "score": round(float(random.random()), 2),
    }
