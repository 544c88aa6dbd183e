from pathlib import Path

import pytest

from detnet.search.config import SearchConfig
from detnet.search.plan import plan_search
from tests.search.small_search import settings


def test_a_search_is_its_trainings_and_its_candidates() -> None:
    values = settings(Path(), Path())
    found = plan_search(SearchConfig.make(None, {**values, "data": ""}), devices=2)
    assert list(found.trainings) == ["pretrain", "finetune", "retrain_pretrain", "retrain"]
    assert (found.candidates, found.images) == (8, 8)
    guide = found.trainings["finetune"]
    assert (guide.images, guide.shown) == (1, 8)
    assert found.scoring_s == pytest.approx(guide.image_s * 64 / 3 / 2)
    total = found.scoring_s + sum(one.seconds for one in found.trainings.values())
    assert found.seconds == pytest.approx(total)


def test_phases_that_a_search_has_not() -> None:
    values = {**settings(Path(), Path()), "data": ""}
    scratch = SearchConfig.make(None, {**values, "from_scratch": True})
    assert list(plan_search(scratch, devices=1).trainings) == ["finetune", "retrain"]
    classes = SearchConfig.make(None, {**values, "guide": "classification"})
    assert "finetune" not in plan_search(classes, devices=1).trainings
