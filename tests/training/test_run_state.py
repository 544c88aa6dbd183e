"""A run between two steps: what its checkpoint holds, what is put back, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detnet.engine.checkpoint import load, save
from detnet.engine.distributed import Process
from detnet.engine.optim import Ema, sgd
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.training import run_state
from detnet.training.run_state import Progress, Run
from detnet.training.task import training_schedule
from tests.engine.toy import CPU, batch
from tests.training.toy_task import CONFIG, PER_EPOCH, ToyTask

ALONE = Process(0, 1, CPU)


def make_run(folder: Path, *, process: Process = ALONE, seed: int = 0, **options: Any) -> Run:
    """A run in a folder that is there, as `run_task` puts it together."""
    folder.mkdir(exist_ok=True)
    task = ToyTask(CONFIG, **options)
    task.read_data(process)
    torch.manual_seed(seed)
    model, _ = task.make_model()
    schedule, told = training_schedule(CONFIG, PER_EPOCH), list[dict[str, Any]]()
    run = Run(
        CONFIG, RunFolder(folder), process, task, schedule, model, sgd(model, lr=0.05),
        Ema(model, 0.9), told.append,
    )  # fmt: skip
    run.told = told  # type: ignore[attr-defined]
    return run


def take_steps(run: Run, count: int, *, start: int = 0) -> None:
    for number in range(start, start + count):
        run.optimizer.zero_grad()
        sum(run.model.train()(*batch(number)).values()).backward()
        run.optimizer.step()
        assert run.ema is not None
        run.ema.update()
        run.progress.iteration = number + 1


def tensors(run: Run) -> dict[str, torch.Tensor]:
    assert run.ema is not None
    found = {f"model {name}": value for name, value in run.model.state_dict().items()}
    found |= {f"average {name}": value for name, value in run.ema.model_state().items()}
    momenta = run.optimizer.state_dict()["state"]
    return found | {f"momentum {n}": state["momentum_buffer"] for n, state in momenta.items()}


def test_everything_comes_back(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    take_steps(run, 3)
    run.progress = Progress(3, best=0.5, best_iteration=2, worse_in_a_row=1, seconds=7.5)
    run_state.save(run)
    drawn = torch.rand(4)
    again = make_run(tmp_path / "run", seed=9)
    torch.manual_seed(9)
    run_state.restore(again)
    assert torch.equal(torch.rand(4), drawn)
    assert again.progress == run.progress and again.task.given == {"rank": 0, "steps": 0}
    expected, found = tensors(run), tensors(again)
    assert any(name.startswith("momentum") for name in expected)
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    assert again.ema is not None and again.ema.updates == 3
    torch.manual_seed(1)
    take_steps(run, 2, start=3)
    torch.manual_seed(1)
    take_steps(again, 2, start=3)
    expected, found = tensors(run), tensors(again)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_settings_are_those_of_now_and_not_the_checkpoints(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    take_steps(run, 2)
    run_state.save(run)
    again = make_run(tmp_path / "run", seed=9)
    again.optimizer = sgd(again.model, lr=0.01, momentum=0.5, weight_decay=0.25)
    run_state.restore(again)
    [group] = again.optimizer.param_groups
    assert (group["initial_lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.5, 0.25)
    found = tensors(again)
    assert all(torch.equal(found[name], value) for name, value in tensors(run).items())


def test_what_was_logged_later_is_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for iteration in (1, 2, 3):
        run_state.log(run, None, {"event": "step", "iteration": iteration})
        if iteration == 2:
            take_steps(run, 2)
            run_state.save(run)
    run_state.restore(make_run(tmp_path / "run"))
    assert [event["iteration"] for event in run.folder.read_metrics()] == [1, 2]


def test_without_a_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run_state.log(run, None, {"event": "step", "iteration": 1})
    before = {name: value.clone() for name, value in tensors(run).items()}
    run_state.restore(run)
    assert run.told == [{"event": "note", "text": "no checkpoint yet: the run begins again"}]  # type: ignore[attr-defined]
    assert run.folder.read_metrics() == [] and run.progress == Progress()
    assert all(torch.equal(before[name], value) for name, value in tensors(run).items())


def test_other_data_are_refused(tmp_path: Path) -> None:
    run_state.save(make_run(tmp_path / "run"))
    other = make_run(tmp_path / "run", fingerprint="other noise")
    with pytest.raises(InputError, match="noise: not the batches that .*run began with"):
        run_state.restore(other)


@pytest.mark.parametrize(("now", "said"), [
    (("b", "a"), "noise: class 1 is 'b', but .*run began with 'a'; put the data's classes back"),
    (("a", "b", "c"), "noise: class 3 is 'c', but .*run began with None"),
    (("a",), "noise: class 2 is None, but .*run began with 'b'"),
])  # fmt: skip
def test_other_classes_are_refused(now: tuple[str, ...], said: str, tmp_path: Path) -> None:
    run_state.save(make_run(tmp_path / "run", data={"classes": ("a", "b")}))
    run_state.restore(make_run(tmp_path / "run", data={"classes": ("a", "b")}))
    with pytest.raises(InputError, match=said):
        run_state.restore(make_run(tmp_path / "run", data={"classes": now}))


def test_a_checkpoint_of_before_goes_on(tmp_path: Path) -> None:
    """Earlier versions kept of the data the fingerprint of those to train on alone."""
    run = make_run(tmp_path / "run")
    take_steps(run, 2)
    run_state.save(run)
    state = load(run.folder.last)
    save(run.folder.last, {name: state[name] for name in state if name not in ("classes", "val")})
    again = make_run(tmp_path / "run", data={"classes": ("a", "b"), "val_fingerprint": "else"})
    run_state.restore(again)
    assert again.progress == run.progress and again.told == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(("now", "anew"), [("hiss", False), ("other", True), ("", False)])
def test_on_other_validation_data_the_best_is_chosen_anew(
    now: str, anew: bool, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", data={"val_fingerprint": "hiss"})
    take_steps(run, 2)
    run.progress = Progress(2, best=0.5, best_iteration=1, worse_in_a_row=1, seconds=7.5)
    run_state.log(run, None, {"event": "step", "iteration": 2})
    run_state.save(run)
    again = make_run(tmp_path / "run", data={"val_fingerprint": now})
    run_state.restore(again)
    told, logged = again.told, again.folder.read_metrics()[1:]  # type: ignore[attr-defined]
    if not anew:
        assert again.progress == run.progress and told == logged == []
        return
    assert again.progress == Progress(2, seconds=7.5)
    text = "the batches to evaluate on changed: the next evaluation begins a new best model"
    assert told == [{"event": "note", "text": text}]
    assert logged == [{"event": "note", "iteration": 2, "text": text}]


def test_a_run_at_its_end_keeps_its_best(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", data={"val_fingerprint": "hiss"})
    run.progress = Progress(CONFIG.iterations or 0, best=0.5, best_iteration=1)
    run_state.save(run)
    again = make_run(tmp_path / "run", data={"val_fingerprint": "other"})
    run_state.restore(again)
    assert again.progress.best == 0.5


@pytest.mark.parametrize(("wrote", "resumes"), [(2, 1), (1, 2)])
def test_another_number_of_processes_is_refused(wrote: int, resumes: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    take_steps(run, 1)
    run_state.save(run)
    state = load(run.folder.last)
    save(run.folder.last, {**state, "rng": state["rng"] * wrote, "task": state["task"] * wrote})
    other = make_run(tmp_path / "run", process=Process(0, resumes, CPU))
    before = {name: value.clone() for name, value in tensors(other).items()}
    message = f"last.ckpt: written by {wrote} processes, resumed by {resumes}; start as many"
    with pytest.raises(InputError, match=message):
        run_state.restore(other)
    assert all(torch.equal(before[name], value) for name, value in tensors(other).items())


def test_each_process_takes_its_own_random_state(tmp_path: Path) -> None:
    run, drawn = make_run(tmp_path / "run"), []
    states = []
    for rank in range(2):
        torch.manual_seed(100 + rank)
        run_state.save(run)
        states.append(load(run.folder.last))
        drawn.append(torch.rand(4))
    both = {key: [state[key][0] for state in states] for key in ("rng", "task")}
    both["task"] = [{"rank": 0, "steps": 0}, {"rank": 1, "steps": 0}]
    save(run.folder.last, {**states[0], **both})
    for rank in range(2):
        again = make_run(tmp_path / "run", process=Process(rank, 2, CPU))
        run_state.restore(again)
        assert torch.equal(torch.rand(4), drawn[rank])
        assert again.task.given == {"rank": rank, "steps": 0}
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("part", ["model", "optimizer", "ema"])
def test_a_state_of_other_settings_is_refused_in_one_line(part: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    take_steps(run, 1)
    run_state.save(run)
    other = nn.Linear(2, 2)
    foreign = {
        "model": other.state_dict(),
        "optimizer": sgd(nn.Sequential(other, nn.Linear(2, 2)), lr=1.0).state_dict(),
        "ema": Ema(other, 0.9).state_dict(),
    }
    save(run.folder.last, {**load(run.folder.last), part: foreign[part]})
    with pytest.raises(InputError, match="does not fit the settings in .*config.yaml") as caught:
        run_state.restore(make_run(tmp_path / "run"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_averages_that_are_not_there_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.ema = None
    run_state.save(run)
    with pytest.raises(InputError, match="does not fit the settings"):
        run_state.restore(make_run(tmp_path / "run"))


def test_a_failed_save_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run_state.save(run)
    before = run.folder.last.read_bytes()
    (tmp_path / "run" / ".last.ckpt.part").mkdir()  # nothing can be written there
    with pytest.raises(InputError, match="the checkpoint before it is kept"):
        run_state.save(run)
    assert run.folder.last.read_bytes() == before


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", process=Process(1, 2, CPU))
    run_state.log(run, None, {"event": "step", "iteration": 1})
    assert not run.folder.metrics.exists()


class Board:
    """Takes scalars as TensorBoard's writer does."""

    def __init__(self) -> None:
        self.scalars: list[Any] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))


def test_numbers_go_to_the_board(tmp_path: Path) -> None:
    run, board = make_run(tmp_path / "run"), Board()
    run_state.log(
        run, board, {"event": "step", "iteration": 4, "loss": 0.5, "text": "-", "AP": None}
    )
    assert board.scalars == [("step/loss", 0.5, 4)]
    line = json.loads(run.folder.metrics.read_text())
    assert line == {"event": "step", "iteration": 4, "loss": 0.5, "text": "-", "AP": None}
    with run_state.tensorboard(run) as nothing:
        assert nothing is None  # unless the settings ask for it


@pytest.mark.parametrize(("layer", "processes", "differ"), [
    (nn.BatchNorm2d(3), 2, True), (nn.BatchNorm2d(3), 1, False), (nn.GroupNorm(1, 3), 2, False),
])  # fmt: skip
def test_whose_statistics_differ(
    layer: nn.Module, processes: int, differ: bool, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", process=Process(0, processes, CPU))
    run.model = nn.Sequential(layer)
    assert run.buffers_differ is differ


def test_synchronised_statistics_are_the_same_anyway(tmp_path: Path) -> None:
    from detnet.backbones.sync import SyncBatchNorm

    run = make_run(tmp_path / "run", process=Process(0, 2, CPU))
    run.model = nn.Sequential(SyncBatchNorm(3))
    assert run.buffers_differ is False
