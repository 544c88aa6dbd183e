import json
from collections.abc import Callable
from typing import Any

import pytest

from detnet.cli.training import follow
from detnet.engine.loop import NonFiniteLoss
from detnet.errors import InputError

Watch = Callable[[dict[str, Any]], None]
END = {"event": "end", "stopped_early": False, "best": 0.5, "best_iteration": 4, "seconds": 61.0}


def test_an_evaluation_tells_masks_and_keypoints(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"AP": 0.5, "AP50": 0.75, "AP75": None, "segm_AP": 0.25, "keypoints_AP": 0.336}

    def training(watch: Watch) -> bool:
        watch({"event": "evaluation", "epoch": 2.0, "best": True, **scores})
        watch(END)
        return True

    assert follow(training, again="detnet train --resume a", as_json=True) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "evaluation at epoch 2.0: AP 50.0  AP50 75.0  masks AP 25.0  keypoints AP 33.6"
        "  (best so far)",
        "done after 61 s; best score 50.0 at iteration 4",
    ]
    assert json.loads(shown.out)["best_iteration"] == 4


def test_an_interrupted_training_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def training(watch: Watch) -> bool:
        watch({"event": "note", "text": "learning rate 0.02"})
        return False

    assert follow(training, again="detnet train --resume a") == 130
    assert capsys.readouterr().err.endswith("saved; go on with: detnet train --resume a\n")


def test_a_loss_that_is_not_finite_is_the_user_s_to_mend() -> None:
    def training(watch: Watch) -> bool:
        raise NonFiniteLoss(7, {"loss_box_reg": float("nan")}, [3])

    with pytest.raises(
        InputError, match=r"iteration 7: loss_box_reg is nan.*lower lr.*`detnet train --resume a`"
    ):
        follow(training, again="detnet train --resume a")
