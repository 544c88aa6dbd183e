"""Questions are read, looked up in COCO's grid, and refused in one line."""

from typing import Any

import pytest

from detnet.campaign.questions import Question, read_question
from detnet.errors import InputError
from detnet.evaluation.grid import make_grid


def read(asked: Any, **more: Any) -> Question:
    given: dict[str, Any] = {
        "variants": ["detnet59", "resnet50"],
        "data": {"bccd": ["bbox"], "coco": ["bbox"]},
        "effect": None,
        "where": "c.yaml: question 1",
    }
    return read_question(asked, **{**given, **more})


def test_a_question_names_two_variants_and_a_measure() -> None:
    found = read("detnet59  over resnet50: AP85 large")
    assert (found.first, found.other, found.data) == ("detnet59", "resnet50", ("bccd", "coco"))
    grid = make_grid("bbox")
    assert found.measure.measure == grid.by_iou_and_size["large"]["AP"]["85"]
    assert found.less is None and found.effect is None and found.measures == [found.measure]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("AP", ("all", "AP", "mean")),
        ("AP50", ("all", "AP", "50")),
        ("AR small", ("small", "AR", "mean")),
        ("AR60 medium", ("medium", "AR", "60")),
    ],
)
def test_measures_have_the_names_of_the_tables(name: str, place: tuple[str, str, str]) -> None:
    size, row, threshold = place
    wanted = make_grid("bbox").by_iou_and_size[size][row][threshold]
    assert read(f"detnet59 over resnet50: {name}").measure.measure == wanted


def test_the_headline_is_there_too() -> None:
    headline = make_grid("bbox").headline
    for name in ("APl", "AR1", "ARs", "AP75"):
        assert read(f"detnet59 over resnet50: {name}").measure.measure == headline[name]


def test_how_a_lead_grows_is_one_measure_less_another() -> None:
    found = read({"ask": "detnet59 over resnet50: AP85 large less AP50 large", "data": "coco"})
    assert [one.text for one in found.measures] == ["AP85 large", "AP50 large"]
    assert found.data == ("coco",)


def test_masks_are_asked_for_by_name() -> None:
    data = {"bccd": ["bbox"], "people": ["bbox", "segm"]}
    found = read("detnet59 over resnet50: masks AP75", data=data)
    assert found.measure.kind == "segm" and found.data == ("people",)
    with pytest.raises(InputError, match="the detectors on bccd find no masks"):
        read({"ask": "detnet59 over resnet50: masks AP75", "data": "bccd"}, data=data)
    assert found.measure.measure == make_grid("segm").headline["AP75"]


def test_an_effect_is_in_points() -> None:
    assert read({"ask": "detnet59 over resnet50: AP", "effect": 2}).effect == 0.02
    assert read("detnet59 over resnet50: AP", effect=1.5).effect == 0.015


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("detnet over resnet50: AP", "unknown variant 'detnet'; did you mean 'detnet59'"),
        ("detnet59 over resnet50: AP58", "unknown measure 'AP58'; did you mean 'AP"),
        ("detnet59 over resnet50: AP less AX", "unknown measure 'AX'"),
        ("detnet59 over detnet59: AP", "compares detnet59 with itself"),
        ("detnet59 better: AP", 'a question is "VARIANT over VARIANT: MEASURE"'),
        (7, "a question is"),
        ("detnet59 over resnet50: masks AP", "find no masks"),
        ("detnet59 over resnet50: masks AP less AP", "one kind of scores from another"),
        ("detnet59 over resnet50: AP less AP", "takes AP from itself"),
        ("detnet59 over resnet50: APl less AP large", "takes APl from itself"),
        ({"ask": "detnet59 over resnet50: AP", "efect": 1}, "unknown key 'efect'"),
        ({"ask": "detnet59 over resnet50: AP", "effect": -1}, "number of points above 0"),
        ({"ask": "detnet59 over resnet50: AP", "data": "bcc"}, "unknown data set 'bcc'"),
        ({"ask": "detnet59 over resnet50: AP", "data": []}, "data must be names"),
    ],
)
def test_what_is_no_question_is_refused(asked: Any, told: str) -> None:
    with pytest.raises(InputError, match="c.yaml: question 1") as error:
        read(asked)
    assert told in str(error.value) and "\n" not in str(error.value)
