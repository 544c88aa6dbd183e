"""What runs a model: torch, an export's runtime, or an export of this very model beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detnet.cli import main
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.engine import machine
from detnet.engine.environment import cpu_name
from detnet.errors import InputError
from detnet.files import sha256_of
from detnet.inference.engines.record import ExportSource, read_export
from detnet.inference.export import writing
from detnet.inference.export.engine_choice import choose_engine, exports_of
from detnet.inference.export.plan import ExportPlan
from detnet.inference.export.writing import Exported
from tests.inference.engines.tiny import tiny_export


def run_with_export(tmp_path: Path, *, torch_s: float, export_s: float) -> Path:
    """A run whose model file nobody reads, and an export that says it is of it."""
    run = tmp_path / "run"
    run.mkdir()
    model = run / "best.safetensors"
    model.write_bytes(b"weights")
    folder = tiny_export(run / "exports" / "best-onnx-fp32")
    record = read_export(folder)
    replace(record, source=ExportSource(model.name, sha256_of(model))).write(folder)
    times = {"torch_s": torch_s, "export_s": export_s, "machine": cpu_name()}
    (folder / "check.json").write_text(json.dumps(times))
    return run


def silent(line: str) -> None:
    raise AssertionError(line)


def test_a_faster_export_of_this_model_is_taken(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    choice = choose_engine(run, tell=silent)
    assert choice.engine == "onnxruntime" and choice.model.name == "best-onnx-fp32"
    assert "checked to be 1.5 times as fast as torch" in str(choice)
    assert choose_engine(run, "torch", tell=silent).model == run / "best.safetensors"
    assert (
        choose_engine(run, "onnxruntime", tell=silent).model == choice.model
    )  # nothing is exported


def test_scores_of_a_run_are_written_where_its_own_would_be(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    folder = run / "exports" / "best-onnx-fp32"
    network = create("retinanet", backbone="resnet50", num_classes=4, width=0.125)
    save_model(run / "best.safetensors", network)
    source = ExportSource("best.safetensors", sha256_of(run / "best.safetensors"))
    names = ({"id": 1, "name": "disk"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"})
    replace(read_export(folder), categories=names, source=source).write(folder)
    write_scenes(tmp_path / "data", train=0, val=2, size=(120, 90))
    words = ["evaluate", str(run), "--data", str(tmp_path / "data"), "--device", "cpu", "--json"]
    assert main([*words, "--precision", "fp32"]) == 0
    assert (run / "evaluation" / "data-val" / "results.json").is_file()
    assert not (folder / "evaluation").exists()


def test_torch_is_taken_where_it_must_be(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    choice = choose_engine(run, torch_only="--soft-nms", tell=silent)
    assert choice.engine == "torch" and "--soft-nms is torch's alone" in choice.why
    assert choose_engine(run, least_score=0.01, tell=silent).engine == "torch"
    with pytest.raises(InputError, match="--engine onnxruntime cannot do --soft-nms"):
        choose_engine(run, "onnxruntime", torch_only="--soft-nms", tell=silent)
    with pytest.raises(InputError, match="--engine onnxruntime cannot do --precision bf16"):
        choose_engine(run, "onnxruntime", precision="bf16", tell=silent)


@pytest.mark.parametrize("fast", ["a GPU", "bf16"])
def test_what_torch_is_fast_at_keeps_auto_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: str
) -> None:
    monkeypatch.setattr(machine, "accelerator", lambda: "cuda" if fast == "a GPU" else None)
    monkeypatch.setattr(machine, "fast_bf16", lambda device: fast == "bf16")
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    options = {"device": None, "precision": "auto", "tell": silent}
    choice = choose_engine(run, **options)
    assert choice.engine == "torch" and choice.why.startswith(fast)
    assert choose_engine(run, "onnxruntime", **options).engine == "onnxruntime"


def test_slower_other_and_damaged_exports_are_left_alone(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.2, export_s=0.3)
    assert choose_engine(run, tell=silent).engine == "torch"
    model = run / "best.safetensors"
    assert len(exports_of(model)) == 1
    network = run / "exports" / "best-onnx-fp32" / "model.onnx"
    content = network.read_bytes()
    network.write_bytes(content + b"x")
    assert exports_of(model) == []
    network.write_bytes(content)
    model.write_bytes(b"trained further")
    assert exports_of(model) == []


def test_a_model_that_was_trained_further_is_exported_beside_its_former_self(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    model = run / "best.safetensors"
    model.write_bytes(b"trained further")
    asked: list[Path] = []

    def export_model(plan: ExportPlan, **_: object) -> Exported:
        asked.append(plan.output)
        plan.output.mkdir()
        return Exported(plan.output, None, None, 0, 0.0)

    monkeypatch.setattr(writing, "export_model", export_model)
    lines: list[str] = []
    choice = choose_engine(run, "onnxruntime", tell=lines.append)
    name = f"best-onnx-fp32-{sha256_of(model)[:8]}"
    assert asked == [run / "exports" / name] == [choice.model] and str(choice.model) in lines[0]
    with pytest.raises(InputError, match=f"{name}: is damaged; remove it, and it is made again"):
        choose_engine(run, "onnxruntime", tell=lines.append)
    assert len(asked) == 1


def test_times_of_another_processor_or_other_versions_do_not_count(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    folder = run / "exports" / "best-onnx-fp32"
    record = read_export(folder)
    replace(record, versions={"torch": "1.0"}).write(folder)
    choice = choose_engine(run, tell=silent)
    assert choice.engine == "torch" and "export it again to compare" in choice.why
    replace(record, versions={"no-such-package": "1.0"}).write(folder)
    assert choose_engine(run, tell=silent).engine == "torch"
    record.write(folder)
    assert choose_engine(run, tell=silent).engine == "onnxruntime"
    times = {"torch_s": 0.3, "export_s": 0.2, "machine": "another"}
    (folder / "check.json").write_text(json.dumps(times))
    assert choose_engine(run, tell=silent).engine == "torch"


def test_an_export_runs_in_its_own_runtime(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "a")
    assert choose_engine(folder, tell=silent).engine == "onnxruntime"
    with pytest.raises(InputError, match="is an export for onnxruntime"):
        choose_engine(folder, "torch", tell=silent)
    with pytest.raises(InputError, match="did you mean 'torch'"):
        choose_engine(folder, "torhc", tell=silent)
    with pytest.raises(InputError, match="no such run folder"):
        choose_engine(tmp_path / "b", tell=silent)
