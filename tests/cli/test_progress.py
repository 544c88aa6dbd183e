"""Progress never changes the items and keeps off standard output."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from detnet.cli import EXIT_INTERRUPTED, progress
from detnet.cli.progress import Screen, candidate_text, plain_line, telling, track
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError


def test_items_pass_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    assert list(track(range(3), what="images", total=3)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "1 of 3 images",
        "2 of 3 images",
        "3 of 3 images",
    ]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("ab", what="images")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track(range(4), what="pictures", total=4)) == [0, 1, 2, 3]
    out, err = capsys.readouterr()
    assert out == "" and "pictures" in err and "4/4" in err


def test_work_that_calls_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with telling("images read") as tell:
        tell(1, 3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    with telling("images read") as tell:
        tell(2, 3)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("2 of 3 images read, ")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with telling("images read") as tell:
        tell(3, 3)
    out, err = capsys.readouterr()
    assert out == "" and "images read" in err and "3/3" in err


def test_lines_tell_the_time_left() -> None:
    assert plain_line(40, 200, 6.0, "images") == "40 of 200 images, 24 s left"
    assert plain_line(40, None, 6.0, "frames") == "40 frames, 6 s"


END = {"event": "end", "stopped_early": False, "best": 0.5, "best_iteration": 4, "seconds": 61.0}


def followed(training: Callable[[Screen], bool], *, as_json: bool = False) -> int:
    with Screen(again="detnet train --resume a") as screen:
        complete = training(screen)
    return screen.finish(complete, as_json=as_json)


def test_an_end_before_the_first_event_is_told_by_one_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert followed(lambda _: False) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "saved; go on with: detnet train --resume a\n"
    monkeypatch.setenv("RANK", "1")
    assert followed(lambda _: False) == 0
    assert capsys.readouterr().err == ""


def test_an_evaluation_tells_masks_and_keypoints(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"AP": 0.5, "AP50": 0.75, "AP75": None, "segm_AP": 0.25, "keypoints_AP": 0.336}

    def training(watch: Screen) -> bool:
        watch({"event": "evaluation", "epoch": 2.0, "best": True, **scores})
        watch(END)
        return True

    assert followed(training, as_json=True) == 0
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

    def training(watch: Screen) -> bool:
        watch(start)
        time.sleep(1.0)  # five steps: as many are left
        watch({**step, "iteration": 25})
        watch({**step, "iteration": 30})
        watch(END)
        return True

    assert followed(training) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
    assert told[0].startswith("iteration 25 of 30  epoch 6.0  loss 1.000  2.0 images/s  lr 0.1")
    assert told[0].endswith("  1.0 s left") and told[1].endswith("  0.0 s left")


def test_an_interrupted_training_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def training(watch: Screen) -> bool:
        watch({"event": "note", "text": "learning rate 0.02"})
        return False

    assert followed(training) == 130
    assert capsys.readouterr().err.endswith("saved; go on with: detnet train --resume a\n")


def test_a_loss_that_is_not_finite_is_the_user_s_to_mend() -> None:
    def training(watch: Screen) -> bool:
        raise NonFiniteLoss(7, {"loss_box_reg": float("nan")}, [3])

    with pytest.raises(
        InputError, match=r"iteration 7: loss_box_reg is nan.*lower lr.*`detnet train --resume a`"
    ):
        followed(training)


CANDIDATE: dict[str, Any] = {
    "event": "candidate",
    "text": "21 03",
    "state": "done",
    "values": (0.25,),
    "costs": {"macs": 12.5e6},
    "seconds": 3.0,
    "error": None,
    "settled": 2,
    "candidates": 6,
    "best": 0.5,
}
SCORED = "  candidate 2 of 6: 21 03, 12.5 M multiply-adds, 3.0 s: "


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "score 25.00 (best so far 50.00)"),
        ({"best": None}, "score 25.00"),
        ({"state": "waiting", "values": None, "error": "NaN"}, "failed: NaN; tried again"),
        ({"state": "failed", "values": None, "error": "NaN"}, "failed: NaN; left out"),
    ],
)
def test_what_is_said_of_a_candidate(changes: dict[str, Any], expected: str) -> None:
    assert candidate_text({**CANDIDATE, **changes}) == SCORED + expected
    kept = candidate_text({**CANDIDATE, **changes, "hit_rate": 0.914})
    assert kept == SCORED.replace("3.0 s", "3.0 s, 91% of images from memory") + expected
