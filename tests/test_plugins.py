"""Plugins: found from here and from elsewhere, wrong ones in one line, known in every process.

Those of `tests/plugins`, written as a third party would, go through every command.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from detnet.backbones import BACKBONES
from detnet.cli import main
from detnet.data.batches import _start_worker
from detnet.detectors import DETECTORS, create
from detnet.detectors.files import load_model
from detnet.detectors.fpn import NECKS
from detnet.errors import InputError
from detnet.evaluation.metrics import METRICS
from detnet.plugins import load_plugins, loaded_plugins
from detnet.training.run import run_task
from tests.conftest import TINY
from tests.training.toy_task import CONFIG, ToyTask

HERE = Path(__file__).parent / "plugins"
OURS = [f"{HERE}:my_backbone", f"{HERE}:my_detector", f"{HERE}:my_metric"]
TABLES = (BACKBONES, DETECTORS, METRICS, NECKS)

BACKBONE = """
from detnet.backbones import BACKBONES
BACKBONES.register("NAME", "detnet.backbones.resnet:resnet50")
"""


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no module, path or name behind."""
    modules, loaded = {*sys.modules}, loaded_plugins()
    known = [dict(table._homes) for table in TABLES]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("detnet.plugins._loaded", dict.fromkeys(loaded))
    monkeypatch.chdir(tmp_path)
    yield
    for table, before in zip(TABLES, known, strict=True):
        table._homes.clear()
        table._homes.update(before)
    for name in {*sys.modules} - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(
            (str(tmp_path), str(HERE))
        ):
            del sys.modules[name]


def write(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BACKBONE.replace("NAME", name))


def test_a_module_here_is_recorded_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "plugin_here.py", "here")
    assert load_plugins(["plugin_here"]) == [f"{tmp_path}:plugin_here"]
    assert "here" in BACKBONES
    assert loaded_plugins()[-1] == f"{tmp_path}:plugin_here"


def test_what_is_recorded_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a" / "plugin_package" / "networks" / "one.py", "one")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recorded = f"{tmp_path / 'a'}:plugin_package.networks.one"
    assert load_plugins([recorded]) == [recorded]
    assert load_plugins(["../a:plugin_package.networks.one"]) == [recorded]
    assert "one" in BACKBONES


@pytest.mark.parametrize("name", ["plugin_file.py", "./plugin_file.py", "{here}/plugin_file.py"])
def test_a_file_is_a_module_of_its_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / "plugin_file.py", "file")
    assert load_plugins([name.format(here=tmp_path)]) == [f"{tmp_path}:plugin_file"]
    assert "file" in BACKBONES


def test_what_lies_beside_the_file_that_names_it_comes_before_what_lies_here(
    tmp_path: Path,
) -> None:
    write(tmp_path / "plugin_both.py", "here")
    write(tmp_path / "a" / "plugin_both.py", "beside")
    write(tmp_path / "plugin_one.py", "one")
    found = load_plugins(["plugin_both", "plugin_one"], beside=tmp_path / "a")
    assert found == [f"{tmp_path / 'a'}:plugin_both", f"{tmp_path}:plugin_one"]
    assert "beside" in BACKBONES and "here" not in BACKBONES
    with pytest.raises(InputError, match="there is another plugin_both in"):
        load_plugins(["plugin_both"])


def test_what_is_installed_keeps_its_name() -> None:
    assert load_plugins(["yaml"]) == ["yaml"]
    assert load_plugins(["importlib.metadata"]) == ["importlib.metadata"]


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("plugin_lost", None, "plugin plugin_lost: no such module in"),
        ("plugin_lost", None, "name one elsewhere as FOLDER/X.py"),
        ("plugin_lost.py", None, "plugin plugin_lost: no such module in"),
        ("plugin_lost.part", None, "plugin plugin_lost.part: no such module in"),
        ("plugin_bad", "import plugin_unknown", "ModuleNotFoundError: No module named"),
        ("plugin_bad", "\n1 / 0", "imported: .*plugin_bad.py, line 2: ZeroDivisionError: division"),
        ("plugin_bad", "def", r"imported: SyntaxError: .*plugin_bad.py, line 1"),
        ("plugin_bad", "raise SystemExit", "SystemExit: no reason given"),
        ("plugin_bad", BACKBONE.replace("NAME", "detnet59"), "a backbone 'detnet59' already"),
        ("plugins/mine.py", None, "plugin mine: no such module in .*plugins"),
        ("my-plugin.py", None, "'my-plugin.py': name a module, .* of letters, digits and _"),
        ("here:yaml", None, "there is another yaml in"),
    ],
)
def test_a_wrong_one_is_one_line(
    tmp_path: Path, name: str, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(InputError, match=message) as caught:
        load_plugins([name])
    assert "\n" not in str(caught.value)


def test_commands_know_its_names_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "plugin_told.py", "told")
    assert main(["info", "told"]) == 2
    assert main(["info", "--plugin", "plugin_told", "told"]) == 0
    assert main(["info", "--plugin=plugin_lost", "told"]) == 2
    assert main(["info", "--plugin"]) == 2
    shown = capsys.readouterr()
    assert "multiply-adds" in shown.out
    assert "plugin_lost: no such module" in shown.err and "expected one argument" in shown.err
    assert main(["info", "--help"]) == 0
    assert "--plugin MODULE" in capsys.readouterr().out


@pytest.mark.parametrize("named", [["plugin_first"], "plugin_first", ["{here}:plugin_first"]])
@pytest.mark.parametrize("command", ["train", "pretrain", "search"])
def test_settings_record_it_with_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, named: str | list[str]
) -> None:
    write(tmp_path / "a" / "plugin_first.py", "first")
    write(tmp_path / "plugin_second.py", "second")
    text = yaml.safe_dump({"plugins": named}).replace("{here}", str(tmp_path / "a"))
    Path("a/mine.yaml").write_text(text)
    more = ["--config", "a/mine.yaml", "--plugin", "plugin_second", "--print-config"]
    assert main([command, *more]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["plugins"] == [f"{tmp_path}/a:plugin_first", f"{tmp_path}:plugin_second"]
    assert "first" in BACKBONES


def test_a_training_from_python_records_it_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "plugin_called.py", "called")
    task = ToyTask(replace(CONFIG, iterations=1, plugins=["plugin_called"]))
    assert run_task(task, tmp_path / "run", resume=False, on_event=lambda event: None)
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["plugins"] == [f"{tmp_path}:plugin_called"] and "called" in BACKBONES


def test_a_process_that_was_not_forked_knows_it(tmp_path: Path) -> None:
    write(tmp_path / "plugin_child.py", "child")
    recorded = load_plugins(["plugin_child"])
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1) as pool:
        assert pool.apply(_worker_knows, (recorded, "child"))


def _worker_knows(plugins: list[str], name: str) -> bool:
    _start_worker(0, plugins=plugins)
    return name in BACKBONES


@pytest.fixture
def command(scenes: Path, tmp_path: Path) -> list[str]:
    """Trains a detector of one's own on a backbone of one's own, kept by a metric of one's own."""
    values = {name: value for name, value in TINY.items() if name != "detector_options"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, "iterations": 2, "threads": 1}))
    named = ["--backbone", "plain", "--detector", "centres", "--best-metric", "F1"]
    return ["train", "--config", str(path), "--data", str(scenes), *named]


def with_plugins(command: list[str]) -> list[str]:
    return [*command, *(word for plugin in OURS for word in ("--plugin", plugin))]


def test_they_go_through_every_command(
    command: list[str], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert main(with_plugins([*command, "--output", str(run)])) == 0
    assert main(with_plugins([*command, "--output", str(other), "--seed", "1"])) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["plugins"] == OURS
    capsys.readouterr()
    assert main(with_plugins(["evaluate", str(run), "--data", str(scenes), "--json"])) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["F1"] <= 1
    picture = next((scenes / "val").iterdir())
    found = ["--output", str(tmp_path / "found"), "--score-threshold", "0"]
    assert main(with_plugins(["predict", str(run), str(picture), *found])) == 0
    assert json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert main(with_plugins(["report", str(run), "--pictures", "2"])) == 0
    assert "F1" in (run / "report.html").read_text()
    capsys.readouterr()
    few = ["--resamples", "100", "--speed-images", "1"]
    assert main(with_plugins(["compare", str(run), str(other), *few])) == 0
    assert "F1" in capsys.readouterr().out
    assert main(with_plugins(["info", "plain"])) == 0


def test_resume_imports_what_the_settings_name(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process that knows nothing of them, from another folder."""
    run = tmp_path / "run"
    assert main(with_plugins([*command, "--output", str(run), "--val-split", "none"])) == 0
    resume = [sys.executable, "-m", "detnet", "train", "--resume", str(run)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(resume, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and "complete at iteration 2" in done.stderr, done.stderr
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(":my_metric", ":my_lost_metric"))
    assert main(["train", "--resume", str(run)]) == 2
    assert "plugin my_lost_metric: no such module" in capsys.readouterr().err


@pytest.mark.slow
def test_torchruns_processes_import_them(command: list[str], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = with_plugins([*command, "--output", str(tmp_path / "run"), "--workers", "1"])
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [*launch, "-m", "detnet", *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_neck_is_trained_kept_and_loaded(scenes: Path, tmp_path: Path) -> None:
    """By a new run, and from the model file, in a process that has imported it."""
    run, values = tmp_path / "run", {**TINY, "iterations": 1}
    options = {**TINY["detector_options"], "neck": "pan"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, "detector_options": options}))
    plugin = ["--plugin", f"{HERE}:my_neck"]
    command = ["train", "--config", str(path), "--data", str(scenes), "--output", str(run)]
    assert main([*command, "--val-split", "none"]) == 2  # unknown before it is brought along
    assert main([*command, "--val-split", "none", *plugin]) == 0
    model = load_model(run / "model.safetensors")
    neck = model.backbone.neck
    assert type(neck).__name__ == "PathAggregation" and list(neck.up) == ["p3", "p4", "p5", "p6"]
    assert [conv.stride for conv in neck.up.values()] == [(2, 2), (2, 2), (1, 1), (1, 1)]
    for name in ("retinanet", "fcos", "cascade_rcnn_fpn"):
        made = create(name, backbone="detnet59", num_classes=2, width=0.125, neck="pan")
        assert type(made.backbone.neck).__name__ == "PathAggregation"


def test_a_loss_is_trained_and_kept(scenes: Path, tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**TINY, "iterations": 1, "detector": "giou_rcnn_fpn"}))
    command = ["train", "--config", str(path), "--data", str(scenes), "--output", str(run)]
    assert main([*command, "--val-split", "none", "--plugin", f"{HERE}:my_loss"]) == 0
    model = load_model(run / "model.safetensors")
    assert type(model.roi_heads).__name__ == "GIoUHeads"
