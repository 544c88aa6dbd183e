"""The whole road of docs/reproduce.md, every command in its order, on a handful of small images.

What is typed stays as it is, torchrun aside: presets, options, folders. Behind it come options that
make networks narrow, images small and runs a step long. The examples for Slurm are run, too, with
stand-ins for what a cluster has.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from detnet.cli import main
from detnet.data.scenes import write_scenes
from detnet.search.config import SearchConfig
from detnet.search.plan import plan_search
from detnet.training.catalogue import RECIPES, SEARCH
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.plan import DevicePlan, plan_training
from docs._tools.pages import ROOT, blocks
from tests.data.voc_devkit import write_devkit
from tests.search.small_search import write_classes

PAGE = ROOT / "docs/reproduce.md"
SLURM = ROOT / "examples/slurm"
DEVICES = 8
LAUNCH = ["torchrun", "--nproc-per-node", str(DEVICES), "-m", "detnet"]

_STEP = ["iterations=1", "batch_size=2", "lr=0.001", "lr_batch=0"]
_AS_CLASSIFIER = [*_STEP, "image_size=32"]
_UNDER_DETECTOR = [*_STEP, "min_sizes=[64]", "max_size=96"]
_HERE = ["--device", "cpu", "--workers", "0"]
SMALLER: dict[str, list[str]] = {  # put behind what is typed
    "check": [],
    "pretrain": [*_HERE, "--width", "0.125", "--iterations", "1", "--batch-size", "2",
                 "--lr", "0.001", "--lr-batch", "0", "--image-size", "32"],
    "train": [*_HERE, "--width", "0.125", "--iterations", "1", "--batch-size", "2",
              "--lr", "0.001", "--lr-batch", "0", "--min-sizes", "64", "--max-size", "96"],
    "evaluate": _HERE,
    "report": ["--pictures", "1"],
    "compare": ["--device", "cpu", "--resamples", "100", "--speed-images", "1"],
    "search": [
        *_HERE, "--width", "0.125", "--no-estimate", "--pretrain-sampling", "uniform",
        "--population", "3", "--generations", "1", "--parents", "2", "--mutations", "1",
        "--crossovers", "1", "--search-images", "2", "--recalibration-images", "2",
        "--recalibration-batch", "2",
        *(word for group, values in (("--pretrain", _AS_CLASSIFIER),
                                     ("--retrain-pretrain", _AS_CLASSIFIER),
                                     ("--finetune", _UNDER_DETECTOR),
                                     ("--retrain", _UNDER_DETECTOR))
          for value in values for word in (group, value)),
    ],
    "search show": [],
    "search baselines": ["--random", "1"],
}  # fmt: skip


def typed(chapter: str = "") -> list[list[str]]:
    """The words of every command of the page; a line that is none has no place in its blocks.

    Args:
        chapter: whose commands alone are asked for.
    """
    found, lines = [], PAGE.read_text(encoding="utf-8").splitlines()
    for block in blocks(PAGE):
        around = [line[3:] for line in lines[: block.line] if line.startswith("## ")][-1]
        if chapter not in ("", around):
            continue
        assert block.language == "sh" and not block.not_run, f"{block.page}:{block.line}"
        for line in block.text.splitlines():
            words = shlex.split(line)
            if words[: len(LAUNCH)] == LAUNCH:
                words = ["detnet", *words[len(LAUNCH) :]]
            assert words[0] == "detnet" and "…" not in words, f"not run by the test: {line}"
            found.append(words[1:])
    return found


def smaller(words: list[str]) -> list[str]:
    """A command with what makes it take seconds; one that goes on keeps its settings."""
    if "--resume" in words:
        return [*words, "--no-estimate"]
    name = " ".join(words[:2]) if " ".join(words[:2]) in SMALLER else words[0]
    return [*words, *SMALLER[name]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the page names, small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    write_classes(tmp_path / "IMAGENET", train=4)
    write_devkit(tmp_path / "VOCdevkit", size=(96, 64))
    coco = tmp_path / "COCO"
    write_scenes(coco, train=6, val=3, size=(160, 120))
    for split in ("train", "val"):
        (coco / split).rename(coco / f"{split}2017")
        annotations = coco / "annotations" / f"instances_{split}.json"
        annotations.rename(annotations.with_name(f"instances_{split}2017.json"))
    shutil.copytree(coco / "val2017", coco / "test2017")
    truth = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    del truth["annotations"]
    (coco / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(truth))
    return tmp_path


def take(chapter: str) -> None:
    """Types a chapter's commands, and before them those of others whose runs it names."""
    own = typed(chapter)
    named = {word for words in own for word in words}
    before = [words for words in typed() if words not in own and output(words) in named]
    for words in [*before, *own]:
        print(" ".join(words))
        assert main(smaller(words)) == 0, " ".join(words)
    for config in sorted(Path("runs").glob("*/config.yaml")):
        assert (config.parent / "space.json").is_file() or (
            config.parent / "model.safetensors"
        ).is_file(), config


def output(words: list[str]) -> str:
    return words[words.index("--output") + 1] if "--output" in words else ""


@pytest.mark.slow
def test_the_road_of_detnet(world: Path) -> None:
    take("Data")
    take("DetNet")
    runs = world / "runs"
    for name in (
        "detnet59_fpn",
        "resnet101_fpn",
        "resnet101_retinanet",
        "detnet59_mask",
        "resnet101_mask",
    ):
        assert zipfile.ZipFile(runs / f"{name}.zip").namelist()
    for name in ("detnet59_mask", "resnet101_mask"):
        assert zipfile.ZipFile(runs / f"{name}-segm.zip").namelist()
    assert (runs / "detnet59-resnet50" / "comparison.json").is_file()


@pytest.mark.slow
def test_the_road_of_detnas(world: Path) -> None:
    take("DetNAS")
    runs = world / "runs"
    places = ("fpn", "retinanet", "voc", "voc_retinanet")
    by_detection = [f"detnas_{place}" for place in places]
    by_classes = ["clsnas", *(f"clsnas_{place}" for place in places[1:])]
    from_scratch = [f"detnas_{place}_scratch" for place in places]
    for name in (*by_detection, *by_classes, *from_scratch, "detnas_1_3g", "random"):
        assert json.loads((runs / name / "winner.json").read_text())["score"] is not None
    for family in (by_detection, by_classes):
        models = {(runs / name / "pretrain" / "model.safetensors").read_bytes() for name in family}
        assert len(models) == 1
    for name in by_detection:
        assert (runs / name / "baselines" / "baselines.json").is_file()


def test_every_command_is_one_that_the_test_can_shorten() -> None:
    commands = typed()
    assert len(commands) > 20
    assert commands == [words for name in ("Data", "DetNet", "DetNAS") for words in typed(name)]
    for words in commands:
        assert smaller(words)[: len(words)] == words
        if "--config" in words:
            name = words[words.index("--config") + 1]
            assert (SEARCH if words[0] == "search" else "") + name in RECIPES


def table() -> dict[str, list[str]]:
    """The rows of "What it takes" by the recipe that they name."""
    part = PAGE.read_text(encoding="utf-8").partition("## What it takes")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return {row[0].partition("`")[2].partition("`")[0]: row[1:] for row in rows}


def test_every_preset_of_the_road_has_its_row() -> None:
    asked = {
        (SEARCH if words[0] == "search" else "") + words[words.index("--config") + 1]
        for words in typed()
        if "--config" in words
    }
    assert asked == set(table())


def test_every_row_of_the_papers_tables_has_its_command() -> None:
    """Detectron's variants, which stand beside the papers' presets, aside."""
    text = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    both = text.partition("### Presets of other papers")[0]
    rows = [line for line in both.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall("`([a-z0-9_]+)`", row)}
    named |= {name for name in RECIPES if name.removeprefix(SEARCH) in named}
    wanted = {name for name in named & RECIPES.keys() if not name.endswith("_detectron")}
    assert len(wanted) > 40 and wanted <= set(table())


@pytest.mark.slow
@pytest.mark.parametrize("name", table())
def test_what_a_row_says_is_what_is_reckoned(name: str) -> None:
    images, hours, memory = table()[name][:3]
    found: list[DevicePlan]
    if name.startswith(SEARCH):
        search = plan_search(SearchConfig.make(name.removeprefix(SEARCH), {}), devices=DEVICES)
        found, seconds = list(search.trainings.values()), search.seconds
    else:
        kind: Any = TrainConfig if RECIPES[name].command == "train" else PretrainConfig
        plan = plan_training(kind.make(name, {}), devices=DEVICES)
        found, seconds = [plan], plan.seconds
    shown = sum(one.shown for one in found)
    most = max(one.memory.total for one in found) / 2**30
    assert float(images.removesuffix(" M")) == pytest.approx(shown / 1e6, rel=0.01)
    assert float(hours) == pytest.approx(seconds / 3600, rel=0.05, abs=0.06)
    assert float(memory.removesuffix(" GiB")) == pytest.approx(most, rel=0.05, abs=0.06)


STAND_IN = """#!/bin/sh
printf '%s\\n' "$(basename "$0")" "$@" >> "$RECORD"
echo %%% >> "$RECORD"
case "$(basename "$0")" in
scontrol) echo first; echo second ;;
srun) while [ "${1#--}" != "$1" ]; do shift; done; exec "$@" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment in which Slurm, torchrun and detnet only write down how they are called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("scontrol", "srun", "torchrun", "detnet"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    given = {"NODELIST": "node[1-2]", "NUM_NODES": "2"}
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RECORD": str(tmp_path / "record"),
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_ON_NODE": "8",
        **{f"SLURM_JOB_{name}": value for name, value in given.items()},
    }


def called(script: str, words: list[str], cluster: dict[str, str]) -> dict[str, list[str]]:
    """What a script calls, with which words."""
    subprocess.run(["bash", SLURM / script, *words], env=cluster, check=True, timeout=60)
    calls = Path(cluster["RECORD"]).read_text().split("%%%\n")
    return {each.split("\n")[0]: each.split("\n")[1:-1] for each in calls if each}


def test_slurm_starts_what_the_page_tells_to_type(cluster: dict[str, str]) -> None:
    for words in typed()[1:3]:
        found = called("train.sbatch", words, cluster)["torchrun"]
        launch = found[: found.index("detnet") + 1]
        assert found[len(launch) :] == words
        assert launch == [
            *("--nnodes", "2", "--nproc-per-node", "8", "--rdzv-id", "7"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "first:29400", "-m", "detnet"),
        ]
        Path(cluster["RECORD"]).unlink()


def test_slurm_starts_workers_on_a_database(cluster: dict[str, str]) -> None:
    asked = ["runs/detnas_fpn", "postgresql://me@there/study"]
    found = called("workers.sbatch", asked, cluster)
    assert found["detnet"] == ["search", "worker", asked[0], "--storage", asked[1]]


@pytest.mark.parametrize("script", sorted(SLURM.glob("*.sbatch")), ids=lambda path: path.name)
def test_what_a_script_says_of_itself_can_be_typed(script: Path) -> None:
    text = script.read_text(encoding="utf-8").replace("\\\n#", "")
    shown = re.findall(r"^#   sbatch (.+)$", text, re.MULTILINE)
    assert shown and all(".sbatch" in line for line in shown)
    assert "set -euo pipefail" in text and "--signal=TERM@" in text
