"""`detnet search worker`: joins a search whose supernet is there, and ends it."""

import json
from pathlib import Path

import pytest

from detnet.cli import main
from detnet.data.scenes import write_scenes
from detnet.detectors.files import save_model
from tests.search.conftest import tiny_detector
from tests.search.settings_of_search import make_run

FEW = {"generations": 1, "population": 3, "parents": 2, "mutations": 1, "crossovers": 1}
CHEAP = {"scoring": "full", "recalibration_images": 2, "heartbeat_s": 1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A search whose supernet is not trained yet."""
    write_scenes(tmp_path / "scenes", train=4, val=2, size=(128, 96))
    place = tmp_path / "my run"
    return make_run(place, None, tmp_path / "scenes", from_scratch=True, **FEW, **CHEAP)


def error_line(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["search", "worker", *words]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("detnet: error: ")
    return last


def add_supernet(run: Path) -> None:
    scenes = run.parent / "scenes"
    (run / "data").mkdir()
    for name, split in (("train", "train"), ("search", "val")):
        raw = json.loads((scenes / f"annotations/instances_{split}.json").read_text())
        for image in raw["images"]:
            image["file_name"] = f"{split}/{image['file_name']}"
        (run / "data" / f"{name}.json").write_text(json.dumps(raw))
    (run / "finetune").mkdir()
    settings = f"train_annotations: {run}/data/train.json\ntrain_images: {scenes}\n"
    (run / "finetune" / "config.yaml").write_text(settings)
    (run / "finetune" / "metrics.jsonl").write_text('{"event": "end", "seconds": 1.0}\n')
    save_model(run / "finetune" / "model.safetensors", tiny_detector(raw["categories"]))


def test_a_worker_ends_a_search(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    add_supernet(run)
    assert main(["search", "worker", str(run)]) == 0
    said = capfd.readouterr()
    assert said.out == f"the search is over; go on with: detnet search --resume '{run}'\n"
    assert "generation 0: 3 candidates" in said.err
    assert said.err.count("M multiply-adds") == 3 and "candidate 3 of 3" in said.err
    assert json.loads((run / "winner.json").read_text())["generation"] == 0
    line = error_line(capfd, str(run), "--storage", f"sqlite:///{run}/none/study.db")
    assert "is its folder there" in line


def test_what_is_not_there(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "none" in error_line(capfd, str(run / "none"))
    assert "finetune" in error_line(capfd, str(run))


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "worker", "--help"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("usage: detnet search worker") and "--storage URL" in said
