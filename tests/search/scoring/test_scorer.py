import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.search.scoring.evaluator import own_randomness, recalibration_batches
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.training.detection.evaluate import evaluate_model
from tests.search.conftest import scoring_settings

ONE = Process(0, 1, torch.device("cpu"))
PATH, OTHER = (2, 1, 3, 0), (0, 3, 1, 2)

IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import torch
from detnet.engine.distributed import Process
from detnet.search.scoring.scorer import make_scorer
sys.path.insert(0, sys.argv[2])
from conftest import scoring_settings
torch.set_num_threads(int(sys.argv[3]))
scorer = make_scorer(scoring_settings(), Path(sys.argv[1]), Process(0, 1, torch.device("cpu")))
print(scorer.score((2, 1, 3, 0), "full").hex())
"""


@pytest.fixture
def scorer(scored_run: Path) -> Scorer:
    return make_scorer(scoring_settings(), scored_run, ONE)


def test_a_score_is_the_path_s_and_the_seed_s_alone(scorer: Scorer) -> None:
    first = scorer.score(PATH, "full")
    state = torch.get_rng_state()
    other, cheap = scorer.score(OTHER, "full"), scorer.score(PATH, "cheap")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert (scorer.score(PATH, "full"), scorer.score(PATH, "cheap")) == (first, cheap)
    assert 0 < first < 1 and len({first, other, cheap, scorer.score(PATH, "full", seed=8)}) == 4


def test_another_process_gives_the_same_bits(scorer: Scorer, scored_run: Path) -> None:
    arguments = [str(scored_run), str(Path(__file__).parents[1]), str(torch.get_num_threads())]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments]
    scorer.score(OTHER, "cheap")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.strip() == scorer.score(PATH, "full").hex()


def test_the_supernet_is_left_as_it_is(scorer: Scorer) -> None:
    model = scorer.evaluator.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer.score(PATH, "full"), scorer.score(OTHER, "cheap")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_score_is_the_ap_that_evaluation_tells(scorer: Scorer, scored_run: Path) -> None:
    split = Split("search", scored_run / "data" / "search.json", scored_run / "images")
    annotations, _ = load_annotations(split)
    budget = scorer.budget("full")
    candidate = scorer.evaluator.candidate(PATH, budget)
    batches = recalibration_batches(8, budget, seed=3, flip=scorer.flip)
    with own_randomness(3, ONE.device):
        scorer.evaluator.recalibrate(candidate, batches, budget)
    scores = evaluate_model(candidate, annotations, process=ONE, autocast=None, workers=0)
    assert scorer.score(PATH, "full") == scores.bbox.headline["AP"]


def test_a_network_that_gives_nan_has_no_score(scorer: Scorer) -> None:
    block = scorer.evaluator.model.backbone.backbone.stages["c3"][0][OTHER[1]]
    with torch.no_grad():
        block.main[0].pointwise.weight[0] = torch.nan
    assert math.isnan(scorer.score(OTHER, "full")) and math.isnan(scorer.score(OTHER, "cheap"))
    assert not math.isnan(scorer.score(PATH, "full"))


def test_a_search_scores_by_its_own_budget(scored_run: Path) -> None:
    full = make_scorer(scoring_settings(), scored_run, ONE)
    cheap = make_scorer(scoring_settings(scoring="cheap"), scored_run, ONE)
    asked: list[bool] = []
    assert full.score(PATH, check_stop=lambda: asked.append(True)) == full.score(PATH, "full")
    assert len(full.parts_of(full.budget())) == 2 and len(asked) == 72 + 2
    assert cheap.score(PATH) == full.score(PATH, "cheap")
    assert (full.images(), cheap.images()) == (72 + 3, 4 + 2)
    assert sum(map(len, cheap.parts_of(cheap.budget()))) == 2


def test_a_score_ends_within_the_recalibration(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    def stop() -> None:
        raise Stopped

    seen: list[int] = []
    monkeypatch.setattr(scorer.evaluator, "step", lambda candidate, batch: seen.append(len(batch)))
    with pytest.raises(Stopped):
        scorer.score(PATH, "full", check_stop=stop)
    assert seen == [1]


def test_the_cheap_budget_looks_at_fewer_boxes(scorer: Scorer) -> None:
    budget = scorer.budget("cheap")
    cheap, full = (scorer.evaluator.candidate(PATH, w) for w in (budget, scorer.budget("full")))
    assert cheap.rpn._post_nms_top_n == {"training": 200, "testing": 60}
    assert cheap.rpn._pre_nms_top_n == {"training": 600, "testing": 360}
    assert full.rpn._post_nms_top_n == {"training": 200, "testing": 200}
    assert scorer.evaluator.model.rpn._post_nms_top_n == {"training": 200, "testing": 200}


def test_a_run_without_a_trained_supernet_is_refused(scored_run: Path, tmp_path: Path) -> None:
    shutil.copytree(scored_run / "data", tmp_path / "data")
    with pytest.raises(InputError, match="no trained supernet"):
        make_scorer(scoring_settings(), tmp_path, ONE)


def test_a_search_split_without_objects_is_refused(scored_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scored_run, run)
    place = run / "data" / "search.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "annotations": []}))
    with pytest.raises(InputError, match=r"search\.json: has no images with objects"):
        make_scorer(scoring_settings(), run, ONE)


def test_a_retinanet_is_scored_too(scored_run: Path, tmp_path: Path) -> None:
    import detnet
    from detnet.detectors.base import info_of
    from detnet.detectors.files import load_model, save_model

    run = tmp_path / "run"
    shutil.copytree(scored_run, run)
    info = info_of(load_model(run / "finetune" / "model.safetensors"))
    torch.manual_seed(1)
    names = ("backbone_options", "width", "norm", "min_size", "max_size", "score_threshold")
    options = {name: info.options[name] for name in names}
    model = detnet.create("retinanet", backbone="supernet", num_classes=info.num_classes, **options)
    info_of(model).categories = info.categories
    save_model(run / "finetune" / "model.safetensors", model)
    scorer = make_scorer(scoring_settings(scoring="cheap"), run, ONE)
    assert (
        scorer.score(PATH, "full") == scorer.score(PATH, "full")
        and 0 <= scorer.score(PATH, "cheap") <= 1
    )
