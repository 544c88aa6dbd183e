import json
import time
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


def test_the_time_left_is_that_of_the_steps_left(capsys: pytest.CaptureFixture[str]) -> None:
    start = {
        "event": "start", "iteration": 20, "iterations": 30, "folder": "a", "processes": 1,
        "images": 8, "val_images": 3, "params": 1, "device": "cpu", "precision": "fp32",
        "per_epoch": 4,
    }  # fmt: skip
    step = {"event": "progress", "loss": 1.0, "images_per_s": 2.0, "epoch": 6.0, "lr": 0.1}

    def training(watch: Watch) -> bool:
        watch(start)
        time.sleep(1.0)  # five steps: as many are left
        watch({**step, "iteration": 25})
        watch({**step, "iteration": 30})
        watch(END)
        return True

    assert follow(training, again="detnet train --resume a") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
    assert told[0].startswith("iteration 25 of 30  epoch 6.0  loss 1.000  2.0 images/s  lr 0.1")
    assert told[0].endswith("  1 s left") and told[1].endswith("  0 s left")


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
