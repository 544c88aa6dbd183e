"""`detnet export`: what cannot be is one line, and the whole way of a small detector."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import detnet
from detnet.cli import main
from detnet.cli.export import _read_data
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.inference.engines.exported import Outputs
from detnet.inference.engines.onnxruntime import OnnxRuntimeEngine
from detnet.inference.engines.record import read_export
from detnet.inference.export.plan import ExportPlan
from detnet.inference.export.writing import export_model
from tests.inference.engines.tiny import tiny_export

CATEGORIES = [{"id": i, "name": n} for i, n in enumerate(("disk", "square", "triangle"), 1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: scores near a quarter for every class, so that there is much to compare."""
    import torch

    torch.manual_seed(0)
    network = create(
        "faster_rcnn_fpn", backbone="resnet50", num_classes=4, width=0.125, min_size=96,
        max_size=160, pre_nms_test=100, post_nms_test=20,
    )  # fmt: skip
    network.info.categories = CATEGORIES
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(path, network)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--format onnix --output o", "unknown 'onnix' (did you mean 'onnx'?)"),
        ("--format openvino --precision fp61 --output o", "did you mean 'fp16'"),
        ("--format onnx --precision bf16 --output o", "take --format openvino for it"),
        ("--format onnx --precision int8 --output o", "--precision int8 needs --data DATA"),
        ("--format onnx --image-size 96 --output o", "give height and width in pixels"),
        ("--format onnx --image-size 8 8 --output o", "must be 32 pixels or more"),
        ("--format onnx --image-size 640 200000 --output o", "at most, got (640, 200000)"),
        ("--format onnx --image-size ² 64 --output o", "give height and width in pixels"),
        ("--format onnx --batch 0 --output o", "batch must be 1 or more"),
        ("--format onnx --output .", "holds something already"),
        ("--format onnx", "--output"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: str,
    said: str,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    assert main(["export", str(model), *words.split()]) == 2
    output, errors = capfd.readouterr()
    assert not output and errors.count("\n") == 1 and said in errors
    assert [each.name for each in tmp_path.iterdir()] == ["something"]


def test_an_export_is_a_model_of_other_commands(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], model: Path
) -> None:
    write_scenes(tmp_path / "data", train=0, val=3, size=(120, 90))
    folder = tiny_export(tmp_path / "export")
    record = json.loads((folder / "model.json").read_text()) | {"categories": CATEGORIES}
    (folder / "model.json").write_text(json.dumps(record))
    picture = str(next((tmp_path / "data" / "val").glob("*.jpg")))

    out = str(tmp_path / "out")
    assert main(["predict", str(folder), picture, "--output", out, "--json"]) == 0
    found, errors = capfd.readouterr()
    assert json.loads(found)["engine"].startswith("runs in onnxruntime")
    assert "runs in onnxruntime: the export's own runtime" in errors
    assert main(["evaluate", str(folder), "--data", str(tmp_path / "data"), "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert 0 <= scores["AP"] <= 1
    assert (folder / "evaluation" / "data-val" / "results.json").is_file()

    other = tiny_export(tmp_path / "other", "openvino")
    (other / "model.json").write_text(
        json.dumps(json.loads((other / "model.json").read_text()) | {"categories": CATEGORIES})
    )
    assert main(["evaluate", str(other), "--data", str(tmp_path / "data"), "--json"]) == 0
    capfd.readouterr()
    assert main(["compare", str(folder), str(other), "--resamples", "100"]) == 0
    compared = capfd.readouterr().out
    assert "export  (" in compared and "other  (" in compared and "on 3 images" in compared
    assert f"`detnet bench {folder} {other}` times them" in " ".join(compared.split())

    assert main(["report", str(folder), "--pictures", "2"]) == 0
    assert f"look at {folder / 'report.html'}" in capfd.readouterr().out
    page = (folder / "report.html").read_text()
    assert page.count('id="gallery"') == 1 and "· onnx · fp32 · on data-val" in page
    assert "Boxes by overlap and size" in page and "Why it errs" in page
    assert "Not evaluated yet" not in page and "Training" not in page
    assert main(["report", str(tiny_export(tmp_path / "unscored"))]) == 0
    assert "Not evaluated yet" in (tmp_path / "unscored" / "report.html").read_text()
    capfd.readouterr()

    refused = {
        ("predict", picture, "--output", out, "--soft-nms", "linear"): "cannot do --soft-nms",
        ("predict", picture, "--output", out, "--engine", "openvino"): "export for onnxruntime",
        ("predict", picture, "--output", out, "--precision", "bf16"): "cannot do --precision",
        ("inspect", picture): "are no longer torch's",
        ("report", "--follow"): "is an export, which keeps nothing of a training",
        ("report", "--results-table", "x.md"): "is an export, which keeps nothing of a training",
        ("export", "--format", "onnx", "--output", "x"): "are no longer torch's",
    }
    for (command, *words), said in refused.items():
        assert main([command, str(folder), *words]) == 2
        errors = capfd.readouterr().err
        assert said in errors and errors.count("\n") == 1


def test_an_export_of_several_images_gets_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would fill up the rest with copies, which take as long."""
    write_scenes(tmp_path / "data", train=0, val=4, size=(120, 90))
    calls: list[int] = []
    run_network = OnnxRuntimeEngine.run_network

    def counted(engine: OnnxRuntimeEngine, images: np.ndarray) -> Outputs:
        calls.append(len(images))
        return run_network(engine, images)

    monkeypatch.setattr(OnnxRuntimeEngine, "run_network", counted)
    folder = str(tiny_export(tmp_path / "export", batch=2))
    words = ["predict", folder, str(tmp_path / "data" / "val"), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert calls == [2, 2] and "in 4 images" in capfd.readouterr().out


def test_ap_needs_no_training_images(tmp_path: Path, model: Path) -> None:
    write_scenes(tmp_path / "data", train=0, val=2, size=(120, 90))
    plan = ExportPlan(model, tmp_path / "a")
    found = _read_data(plan, tmp_path / "data")
    assert len(found.val) == 2 and found.train is None
    of_int8 = ExportPlan(model, tmp_path / "a", precision="int8")
    with pytest.raises(InputError, match="int8 needs training images"):  # of which there are none
        export_model(of_int8, data=_read_data(of_int8, tmp_path / "data"), tell=print)
    (tmp_path / "data" / "annotations" / "instances_train.json").unlink()
    assert _read_data(plan, tmp_path / "data").train is None
    with pytest.raises(InputError, match="no annotations of the split 'train'"):
        _read_data(of_int8, tmp_path / "data")


def test_predicting_with_an_export_imports_no_torch(tmp_path: Path) -> None:
    write_scenes(tmp_path / "data", train=0, val=1, size=(120, 90))
    folder = tiny_export(tmp_path / "export", masks=True)
    words = [str(folder), str(tmp_path / "data" / "val"), "--output", str(tmp_path / "out")]
    code = (
        "import sys\nfrom detnet.cli import main\n"
        f"assert main(['predict', *{words!r}]) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 image" in done.stdout


def test_too_little_memory_is_one_line(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "onnx", "--batch", "2000000000", "--output", str(tmp_path / "o")]
    assert main(["export", str(model), *words]) == 2
    _, *errors = capfd.readouterr().err.splitlines()  # the first says what is begun
    assert len(errors) == 1 and "out of memory: " in errors[0]
    assert errors[0].endswith("a smaller --image-size or --batch takes less")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--format openvino",
        "--format onnx --precision fp16 --batch 2",
        "--format openvino --image-size 96 160",
    ],
)
def test_a_detector_is_exported_and_finds_what_it_found(
    words: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "export"
    assert main(["export", str(model), *words.split(), "--output", str(folder)]) == 0
    assert "without a partner" in capfd.readouterr().out
    record = read_export(folder)
    assert sorted(each.name for each in folder.iterdir()) == sorted(
        ["check.json", "check.png", "model.json", *record.files]
    )
    assert not [each for each in tmp_path.iterdir() if each != folder]
    check = json.loads((folder / "check.json").read_text())
    assert check["differences"]["objects"] > 100 and not check["failures"]
    image = Path(detnet.__file__).parents[1] / "docs" / "demo.png"
    exported = detnet.load(folder, score_threshold=0.2).predict(image)
    torchs = detnet.load(model, score_threshold=0.2).predict(image)
    assert exported.size == torchs.size
    if "image-size" not in words:  # there the picture is seen at another size
        assert len(exported) == pytest.approx(len(torchs), abs=2)


@pytest.mark.slow
def test_int8_is_calibrated_and_measured(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "data", train=6, val=4, size=(160, 120))
    words = f"--format openvino --precision int8 --data {tmp_path / 'data'} --json"
    folder = tmp_path / "export"
    code = main(["export", str(model), *words.split(), "--output", str(folder)])
    found, told = capfd.readouterr()
    assert "all layers in int8" in told
    if code:  # weights drawn at random may find other objects in int8: then nothing is made
        assert code == 2 and not folder.exists()
        assert "not made: the export differs from the model" in told
        assert "a higher --precision differs less" in told
        return
    content = json.loads(found)
    assert "in int8" in content["check"]["runs_as"]
    assert [one["iou_type"] for one in content["check"]["ap"]] == ["bbox"]
    assert content["check"]["ap_images"] == content["check"]["other_images"] == 2
