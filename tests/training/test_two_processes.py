"""Two real processes do together what one does alone; one launch for all these tests."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from detnet.engine.checkpoint import load
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import PretrainTask
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask
from tests.training.toy_task import carry_out, different, events_of
from tests.training.two_processes import classify_all, detect_all, sum_losses

ROOT = Path(__file__).parents[2]
ALONE = Process(0, 1, torch.device("cpu"))

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in two class folders, 40 by 52; five to evaluate on, one to train on is cut."""
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, counts in (("train", (4, 4)), ("val", (3, 2))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 256, (40, 52, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    cut = folder / "train" / "dog" / "2.png"
    cut.write_bytes(cut.read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def folder(scenes: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes have left what they found."""
    place = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.training.two_processes"]
    done = subprocess.run(
        [*command, str(place), str(scenes), str(pictures)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    logs = "\n".join(log.read_text()[-2000:] for log in sorted(place.glob("*.log")))
    assert done.returncode == 0, logs
    return place


@pytest.fixture(scope="module")
def ranks(folder: Path) -> Found:
    """What each process found, by rank."""
    torch.set_num_threads(1)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def test_the_detections_of_both_are_scored(ranks: Found, scenes: Path) -> None:
    expected = detect_all(ALONE, scenes)
    assert {record["image_id"] for record in expected["results"]} == {1, 2, 3}
    assert all("segmentation" in record for record in expected["results"])
    assert expected["headline"]["segm_AP"] is not None
    for rank, found in enumerate(ranks):
        assert found["evaluate"]["results"] == ([] if rank else expected["results"])
        assert found["evaluate"]["headline"] == expected["headline"]


def test_validation_losses_are_means_over_the_images_of_both(ranks: Found, scenes: Path) -> None:
    expected = sum_losses(ALONE, scenes, batch_size=1)
    assert len(expected) == 3
    for found in (sum_losses(ALONE, scenes), *(rank["losses"] for rank in ranks)):
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_pictures_of_both_are_counted(ranks: Found, pictures: Path) -> None:
    expected = classify_all(ALONE, pictures)
    assert expected["images"] == 5
    for found in ranks:
        assert found["classify"]["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-6)
        assert {**found["classify"], "val_loss": 0} == {**expected, "val_loss": 0}


def test_both_know_what_one_could_not_read(ranks: Found) -> None:
    first, second = (found["look"] for found in ranks)
    assert first == second and len(first) == 2
    assert "2.png" in first[0] and first[1] == "1 of 8 images cannot be read so far"


def test_a_resumed_run_comes_to_the_same_bits(ranks: Found, folder: Path) -> None:
    """In the files, and on either process, whose random numbers are its own."""
    assert different(folder / "whole", folder / "parts") == []
    for rank, found in enumerate(ranks):
        assert found["parts"]["given"] == {"rank": rank, "steps": 6}
        assert found["parts"]["shown"] == found["whole"]["shown"][2 * 6 :]
        for name, value in found["whole"]["model"].items():
            assert torch.equal(found["parts"]["model"][name], value), (rank, name)
        for one, other in zip(found["whole"]["judged"][3:], found["parts"]["judged"], strict=True):
            assert all(torch.equal(other[name], value) for name, value in one.items())


def test_each_draws_numbers_of_its_own(folder: Path) -> None:
    state = load(folder / "whole" / "last.ckpt")
    assert len(state["rng"]) == 2
    assert not torch.equal(*(one["torch"] for one in state["rng"]))
    assert state["task"] == [{"rank": rank, "steps": 8} for rank in range(2)]


@pytest.mark.parametrize("run", ["whole", "plain"])  # with averaged weights, and without
def test_both_judge_the_model_that_is_kept(run: str, ranks: Found, folder: Path) -> None:
    """Plain batch norm follows each process's own images; what is judged must not."""
    first, second = (found[run]["judged"] for found in ranks)
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        assert [name for name, value in one.items() if not torch.equal(other[name], value)] == []
    end = events_of(folder / run)[-1]
    kept = load_file(folder / run / "best.safetensors")
    judged = second[end["best_iteration"] // 2 - 1]
    assert all(torch.equal(judged[name], value) for name, value in kept.items())
    last = load(folder / run / "last.ckpt")
    for found in ranks:
        final = found[run]["model"]
        assert all(torch.equal(final[name], value) for name, value in last["model"].items())


def test_both_are_stopped_by_a_bad_image_of_one(ranks: Found, folder: Path) -> None:
    assert [found["fail"] for found in ranks] == [{"iteration": 6, "images": [500, 501]}] * 2
    assert load(folder / "fail" / "last.ckpt")["progress"]["iteration"] == 5
    last = events_of(folder / "fail")[-1]
    assert last == {"event": "failure", "iteration": 6, "images": ["500.jpg", "501.jpg"]}


def test_one_alone_cannot_go_on_with_it(ranks: Found, folder: Path) -> None:
    before = (folder / "whole" / "metrics.jsonl").read_bytes()
    message = "last.ckpt: written by 2 processes, resumed by 1; start as many"
    with pytest.raises(InputError, match=message):
        carry_out(folder / "whole", resume=True)
    assert (folder / "whole" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("settings", r"rank 1 \(id .+\) has other settings than rank 0: lr 0.07, there 0.05"),
        (
            "data",
            r"rank 1 \(id .+\) has other data at noise than rank 0: batches by their fingerprint "
            "noise 1, there noise 0",
        ),
        ("few", "noise: has 1 images to train on, for 2 processes; start 1 at most"),
    ],
)
def test_both_are_told_in_which_they_differ(
    name: str, message: str, ranks: Found, folder: Path
) -> None:
    for found in ranks:
        assert re.fullmatch(f"InputError: {message}", found["refused"][name])
    assert not (folder / "refused" / name).exists()


@pytest.mark.parametrize("name", ["model", "annotations"])
def test_what_is_evaluated_must_be_the_same(name: str, ranks: Found) -> None:
    message = rf"rank 1 \(id .+\) has other files than rank 0: {name} of fingerprint "
    for found in ranks:
        assert re.fullmatch(message + "[0-9a-f]{16}, there [0-9a-f]{16}", found["apart"][name])
    assert ranks[0]["apart"]["same"] == ranks[1]["apart"]["same"] != ""


def test_a_single_value_of_batch_norm_is_told(ranks: Found) -> None:
    message = (
        r"InputError: batch norm cannot normalise a single value of each channel: of the 2 images "
        r"of a step each of 2 processes has 1 at once, whose features are of size 1, \d+, 1, 1; "
        r"--norm sync normalises over all of them; --batch-size 4 gives it 2 at once, .+"
    )
    for found in ranks:
        assert re.fullmatch(message, found["alone"])


def test_a_folder_of_ones_own_is_told(ranks: Found, folder: Path) -> None:
    place = folder / "refused"
    for rank, found in enumerate(ranks):
        message = rf"InputError: {place}/apart{rank}: rank 1 \(id .+\) does not see what rank 0 "
        assert re.match(f"{message}writes there; give a folder", found["refused"]["apart"])
    assert not list((place / "apart0").iterdir()) and not (place / "apart1").exists()


def test_the_other_is_told_why_one_has_ended(ranks: Found) -> None:
    first, second = (found["refused"]["alone"] for found in ranks)
    assert second == "InputError: image 5: cannot be read"
    message = r"LostProcess: rank 1 of 2 processes \(id .+\) has ended: image 5: cannot be read"
    assert re.fullmatch(message, first)


def test_one_with_empty_images_only(ranks: Found, folder: Path) -> None:
    assert [found["few"] for found in ranks] == [True, True]
    events = events_of(folder / "few")
    assert sum(event["event"] == "step" for event in events) == 4
    assert [event["event"] for event in events[-2:]] == ["evaluation", "end"]
    assert (folder / "few" / "model.safetensors").exists()


def shares(make: Any) -> None:
    """Two processes' batches are halves of those of one that takes twice as many images."""

    def ids(process: Process, steps: int) -> list[list[int]]:
        task = make()
        task.read_data(process)
        batches = task.stream(start=0, stop=steps)
        return [[target["image_id"] for target in targets] for _, targets in batches]

    parts = [ids(Process(rank, 2, ALONE.device), 4) for rank in range(2)]
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == ids(ALONE, 4)


def test_detection_deals_its_images_out(tiny: TrainConfig) -> None:
    shares(lambda: DetectionTask(tiny))


def test_classification_deals_its_images_out(pictures: Path) -> None:
    values = {"data": str(pictures), "image_size": 32, "batch_size": 2, "workers": 0}
    config = PretrainConfig.make(None, {**values, "train_split": "val", "val_split": "none"})
    shares(lambda: PretrainTask(config))
