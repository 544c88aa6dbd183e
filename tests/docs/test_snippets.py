"""What the pages tell to type is typed: in a folder where its data, models and pictures lie.

A block is left out by a comment before it, `<!-- not run: needs VOC -->`, and a line by an ellipsis
in it; their options must exist all the same.
"""

import ast
import importlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml

from detnet.cli import COMMANDS, main, make_parser
from detnet.data.scenes import write_scenes
from detnet.inference.export.differences import BOUNDS
from docs._tools.names import is_name
from docs._tools.pages import Block, blocks, pages
from tests.search.small_search import settings, write_classes

# docs/reproduce.md is a road that test_reproduce.py types; docs/plugins.md one of test_plugins.py.
_ELSEWHERE = ("CHANGELOG.md", "LOG.md", "plugins.md", "reproduce.md")
PAGES = [page for page in pages() if page.name not in _ELSEWHERE]
TINY = ["--width", "0.125", "--workers", "0", "--device", "cpu", "--log-every", "1"]
ENOUGH = {  # added to a command: what it does stays, and takes seconds
    "train": [*TINY, "--epochs", "1", "--batch-size", "2", "--min-sizes", "64", "--max-size", "96"],
    "pretrain": [*TINY, "--epochs", "1", "--batch-size", "2", "--image-size", "32"],
    "predict": ["--device", "cpu"],
    "inspect": ["--device", "cpu", "--draws", "1"],
    "compare": ["--resamples", "100", "--speed-images", "1"],
}


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each line that begins with `detnet`, of a shell's block; optional ones not."""
    text = re.sub(r"\\\n\s*", "", block.text)
    for line in text.splitlines():
        if line.startswith("detnet ") and block.language in ("", "sh"):
            yield shlex.split(re.sub(r" \[--[^\]]*\]", "", line), comments=True)[1:]


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


TYPED = [block for block in all_blocks() if list(commands(block))]
PYTHON = [block for block in all_blocks() if block.language == "python"]


@pytest.mark.parametrize("block", TYPED, ids=place)
def test_commands_and_their_options_exist(block: Block) -> None:
    for words in commands(block):
        module = importlib.import_module(COMMANDS[words[0]])
        actions = getattr(module, "ACTIONS", {})
        if len(words) > 1 and words[1] in actions:
            words, module = words[1:], actions[words[1]]
        parser = make_parser(words[0], module)
        parser.parse_args([word for word in words[1:] if word != "…"])
        if words[0] == "search" and "--config" in words:  # what the page's test replaces by its own
            assert {"--data", "--pretrain-data"} <= {*words}, "a preset of a search names no data"


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_what_is_imported_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detnet"):
            for each in node.names:
                assert is_name(f"{node.module}.{each.name}"), f"{node.module}.{each.name}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name: data, runs, pictures, results."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_scenes(Path("DATA"), train=4, val=3, size=(160, 120))
        for name in ("my-data", "OTHER"):
            shutil.copytree("DATA", name)
        write_scenes(Path("people"), train=4, val=3, size=(160, 120), keypoints=True)
        write_classes(Path("imagenet"), train=4)
        for name in ("IMAGENET", "FOLDER"):
            shutil.copytree("imagenet", name)
        truth = Path("DATA/annotations/instances_val.json")
        photo = next(Path("DATA/val").glob("*.jpg"))
        for name in ("photo.jpg", "image.jpg", "photos/one.jpg"):
            Path(name).parent.mkdir(exist_ok=True)
            shutil.copy(photo, name)
        for name in ("gt.json", "GT.json", "instances_val.json"):
            shutil.copy(truth, name)
        for seed, name in enumerate(("dt", "DT", "results", "a", "b", "c")):
            Path(f"{name}.json").write_text(json.dumps(results(truth, seed)))
        torch.save(torchvision.models.resnet50().state_dict(), "resnet50.pth")
        for name, backbone in (("a", "detnet59"), ("b", "resnet50")):
            train(f"runs/{name}", "DATA", backbone)
            train(f"runs/pose-{name}", "people", backbone, detector="keypoint_rcnn_fpn")
        train("runs/detnas", "DATA", "detnasnet_300m")
        for name, source in (("detnet", "a"), ("resnet", "b")):
            for copy in (
                f"runs/{name}",
                f"runs/bccd-{name}" + ("59" if name == "detnet" else "50"),
            ):
                shutil.copytree(f"runs/{source}", copy)
        classifier = ["pretrain", "--data", "imagenet", "--output", "runs/d59"]
        assert main([*classifier, "--backbone", "detnet59", *ENOUGH["pretrain"]]) == 0
        shutil.copytree("runs/d59", "runs/p")
        Path("small-search.yaml").write_text(yaml.safe_dump(settings(Path("DATA"), Path("FOLDER"))))
    return folder


def results(truth: Path, seed: int) -> list[dict[str, object]]:
    """Detections near the objects, masks among them."""
    generator = np.random.default_rng(seed)
    return [
        {
            "image_id": record["image_id"],
            "category_id": record["category_id"],
            "bbox": (np.array(record["bbox"]) + generator.normal(0, 2, 4)).tolist(),
            "segmentation": record["segmentation"],
            "score": float(generator.random()),
        }
        for record in json.loads(truth.read_text())["annotations"]
    ]


def train(run: str, data: str, backbone: str, *, detector: str = "faster_rcnn_fpn") -> None:
    words = ["train", "--data", data, "--output", run, "--backbone", backbone]
    assert main([*words, "--detector", detector, *ENOUGH["train"]]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(True for _ in blocks(page))], ids=lambda p: p.name
)
def test_what_the_page_says_runs(
    page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(world, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    for precision, bounds in BOUNDS.items():  # rounding decides much in what has learnt nothing
        most = max(bounds.unmatched, 0.1)
        monkeypatch.setitem(BOUNDS, precision, replace(bounds, unmatched=most, ap=0.02))
    names: dict[str, object] = {}
    exec("import detnet", names)
    for block in blocks(page):
        if block.not_run:
            continue
        if block.language == "python":
            exec(compile(block.text, place(block), "exec"), names)
        for words in commands(block):
            if "…" not in words and words[0] != "serve":  # which ends when it is told to
                assert main(shortened(words)) == 0, f"{place(block)}: {' '.join(words)}"


def shortened(words: list[str]) -> list[str]:
    """The command with what makes it small; a run that is there makes way for a new one."""
    output = words[words.index("--output") + 1] if "--output" in words else ""
    if words[0] in ("train", "pretrain", "search") and output:
        shutil.rmtree(output, ignore_errors=True)
    if "--resume" in words:
        return words
    if words[0] == "search" and "--config" in words:
        words = [*words]
        words[words.index("--config") + 1] = "small-search.yaml"
    more = ENOUGH.get(" ".join(words[:2]), ENOUGH.get(words[0], []))
    whole = ["--width", "1"] if "resnet50.pth" in words and words[0] in ENOUGH else []
    return [*words, *more, *whole]
