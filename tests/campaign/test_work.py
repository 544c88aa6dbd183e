"""A whole campaign: workers killed and interrupted, budgets, and the same bits in the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detnet.campaign.agenda import open_campaign_study
from detnet.campaign.answers import answer_questions
from detnet.campaign.costs import CampaignClock
from detnet.campaign.plan import begin_campaign, open_campaign
from detnet.campaign.work import run_campaign
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from tests.campaign.small_campaign import TRAIN, pretend

Write = Callable[..., Path]
LONG = {**TRAIN, "iterations": 12, "evaluate_every": 2}


def start(file: Path, folder: Path, data: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detnet", "campaign", str(file), "--output", str(folder)]
    command += ["--data-root", str(data), "--no-estimate", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 400
    while not found():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)


def begun(folder: Path) -> list[Path]:
    """Trainings that have a checkpoint and no model yet."""
    runs = [path.parent for path in folder.glob("scenes/*/*/last.ckpt")]
    return [run for run in runs if not (run / "model.safetensors").exists()]


@pytest.mark.slow
def test_kills_and_interruptions_change_no_bit(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    file, whole, torn = campaign_file(train=LONG, seeds=1), tmp_path / "whole", tmp_path / "torn"
    end = run_campaign(
        begin_campaign(file, whole, root=campaign_data), estimate=False, on_event=lambda event: None
    )
    assert end == "complete"

    process = start(file, torn, campaign_data, "--workers", "2")
    wait_for(lambda: begun(torn), process)
    with open_campaign_study(open_campaign(torn)) as study:
        running = [t.user_attrs for t in study.get_trials() if t.state.name == "RUNNING"]
    pid = int(running[0]["worker"].rpartition("-")[2])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(list(torn.glob("scenes/*/*/model.safetensors"))) >= 1, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    assert not all((torn / run.folder / "result.json").exists() for run in open_campaign(torn).runs)
    assert f"go on with: detnet campaign {file} --output {torn}" in out

    process = start(file, torn, campaign_data)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    for run in open_campaign(torn).runs:
        for name in ("model.safetensors", "last/results.json"):
            one, other = whole / run.folder / name, torn / run.folder / name
            assert one.exists() == (run.kind == "train" or name != "last/results.json")
            assert not one.exists() or one.read_bytes() == other.read_bytes(), other
        steps = RunFolder(torn / run.folder).read_metrics()
        numbers = [event["iteration"] for event in steps if event["event"] == "step"]
        assert numbers == sorted(set(numbers)), "no step is told twice"
    one, other = (answer_questions(open_campaign(folder)) for folder in (whole, torn))
    assert [a.found for a in one] == [a.found for a in other] and one[0].found is not None


@pytest.mark.slow
def test_workers_end_with_their_command_even_if_it_is_killed(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    folder, file = tmp_path / "c", campaign_file(train=LONG, seeds=1)
    process = start(file, folder, campaign_data, "--workers", "2")
    wait_for(lambda: begun(folder), process)
    with open_campaign_study(open_campaign(folder)) as study:

        def running() -> list[int]:
            found = [t.user_attrs for t in study.get_trials() if t.state.name == "RUNNING"]
            return [int(one["worker"].rpartition("-")[2]) for one in found if "worker" in one]

        workers = running()
        process.kill()
        process.communicate()
        end = time.monotonic() + 120
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert workers and not running(), "what they were at was saved and handed back"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_budget_that_is_spent_at_once_ends_as_any(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, workers: str
) -> None:
    options = ("--budget", "1e-9", "--workers", workers)
    process = start(campaign_file(), tmp_path / "c", campaign_data, *options)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "the budget is spent" in out, out
    assert "the budget allows no more; go on with: detnet campaign" in out
    assert "round 1 takes" not in out  # measuring has taken all of it


@pytest.mark.slow
def test_a_budget_does_whole_rounds(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round is begun though it does not fit where it is the first, a second one is not."""
    monkeypatch.setattr(CampaignClock, "seconds_of_round", lambda clock, number, workers: 1e4)
    campaign = begin_campaign(campaign_file(), tmp_path / "c", root=campaign_data)
    notes: list[str] = []

    def hear(event: dict[str, object]) -> None:
        notes.append(str(event.get("text")))

    slow = [one for one in campaign.runs if one.seed == 1]
    assert run_campaign(campaign, budget_h=0.02, estimate=False, on_event=hear) == "spent"
    done = [run for run in campaign.runs if campaign.is_done(run)]
    assert [run.seed for run in done] == [0] * 4 and not any(map(campaign.is_done, slow))
    assert any("more than the budget" in note for note in notes)


@pytest.mark.slow
def test_workers_that_cannot_work_end_the_campaign(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    campaign = begin_campaign(campaign_file(seeds=1), tmp_path / "c", root=campaign_data)
    folder = tmp_path / "c" / campaign.runs[0].folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{")
    (folder / "last.ckpt").write_text("no checkpoint")
    with pytest.raises(InputError, match=r"worker-[01]\.log: all workers ended: detnet: error: "):
        run_campaign(campaign, workers=2, estimate=False, on_event=lambda event: None)


def test_a_budget_longer_than_a_clock_counts_is_one_too(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    asked = ["detnet59 over resnet50: AP", "detnet59 over resnet50: AP large"]
    file = campaign_file(pretrain=None, questions=asked)
    campaign = begin_campaign(file, tmp_path / "c", root=campaign_data)
    for run in campaign.runs:
        pretend(campaign, run, skill=0.9)
    notes: list[str] = []

    def hear(event: dict[str, object]) -> None:
        notes.append(str(event.get("text")))

    assert run_campaign(campaign, budget_h=1e7, estimate=False, on_event=hear) == "complete"
    few = "something to be found on 1 image only: too few for an interval"
    assert notes[0] == f"{asked[1]}, on scenes: {few}", "that can be known before"


def test_arguments_out_of_range_are_refused(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    campaign = begin_campaign(campaign_file(pretrain=None), tmp_path / "c", root=campaign_data)
    for options in ({"workers": 0}, {"budget_h": 0.0}, {"budget_h": float("nan")}):
        with pytest.raises(InputError, match="give a number of workers and of hours"):
            run_campaign(campaign, estimate=False, on_event=lambda event: None, **options)
