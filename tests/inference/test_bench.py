"""Times by stage, in turns, in processes of their own."""

import multiprocessing
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.cli import main
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.inference import bench
from detnet.inference.bench import (
    WARM_UP,
    Latency,
    TimedModel,
    _open,
    draw_image,
    time_detectors,
)
from detnet.inference.engines.predictor import EnginePredictor
from detnet.inference.predictor import Predictor
from detnet.inference.stages import REST, STAGES
from tests.inference.engines.tiny import tiny_export


def small(detector: str, backbone: str = "resnet50") -> Predictor:
    torch.manual_seed(0)
    model = create(
        detector, backbone=backbone, num_classes=3, width=0.125, min_size=64, max_size=96
    )
    return Predictor(model, score_threshold=0.05)


def test_percentiles_are_of_milliseconds() -> None:
    latency = Latency.of([0.001 * number for number in range(1, 102)])
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == (51, 91, 100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_model(path, small("faster_rcnn_fpn").model)
    return path


@pytest.mark.slow  # two processes that load torch
def test_detectors_run_in_turns_in_processes_of_their_own(model: Path, tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg", 60, 90)
    report = time_detectors(
        [TimedModel("a", model, "fp32", "cpu"), TimedModel("b", model, "bf16", "cpu")],
        [tmp_path / "a.jpg"],
        turns=4,
        score_threshold=0.2,
    )
    first, second = report.timings
    assert (first.engine, second.engine) == ("torch", "torch")
    assert first.runs_as.startswith("fp32") and second.runs_as.startswith("bf16")
    for timing in report.timings:
        names = ["decode", "resize", "backbone", "pyramid", "proposals", "heads", REST]
        assert list(timing.stages) == names
        assert timing.objects > 0
        # The libraries alone take more than this; another process's memory is not in it.
        assert timing.memory_bytes is not None and 1e8 < timing.memory_bytes < 4e9


def test_what_is_timed_is_what_predict_runs(model: Path) -> None:
    predictor, clock, facts = _open(TimedModel("a", model, "fp32", "cpu"), 0.3)
    assert facts.engine == "torch" and facts.runs_as.startswith("fp32")
    assert predictor.score_threshold == 0.3
    predictor.predict(np.zeros((60, 90, 3), np.uint8))
    assert set(clock.seconds) == {"resize", "backbone", "pyramid", "proposals", "heads", REST}


def test_exports_run_in_turns_and_have_the_stages_around_their_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    folders = [tiny_export(tmp_path / "a"), tiny_export(tmp_path / "b", masks=True)]
    draw_image(tmp_path / "a.jpg", 60, 90)
    told: list[tuple[int, int]] = []
    report = time_detectors(
        [TimedModel(folder.name, folder) for folder in folders],
        [tmp_path / "a.jpg"],
        turns=4,
        score_threshold=0.1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(0, 4)] * WARM_UP + [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.turns == 4 and report.ratios[0] == 1 and report.ratios[1] > 0
    for timing in report.timings:
        assert timing.engine == "onnxruntime" and "fp32" in timing.runs_as
        assert list(timing.stages) == ["decode", "resize", "network", REST]
        assert all(stage.p50_ms > 0 for stage in timing.stages.values())
        total = timing.total
        assert 0 < total.p50_ms <= total.p90_ms <= total.p99_ms
        assert sum(stage.p50_ms for stage in timing.stages.values()) < 1.5 * total.p99_ms
        assert 1000 / total.p99_ms <= timing.images_per_s * 1.001
        assert timing.objects == 2
        assert timing.memory_bytes is None or timing.memory_bytes > 1e7  # of the tests, too


class End:
    """The end of a pipe: what is asked, and what was said."""

    def __init__(self, *questions: Path | None) -> None:
        self.questions = [*questions]
        self.said: list[Any] = []

    def recv(self) -> Path | None:
        return self.questions.pop(0)

    def send(self, answer: Any) -> None:
        self.said.append(answer)


def test_an_export_of_several_images_is_timed_with_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    monkeypatch.setattr(bench.signal, "signal", lambda *_: None)
    given: list[int] = []
    predict_batch = EnginePredictor.predict_batch

    def counted(self: EnginePredictor, images: list[np.ndarray]) -> Any:
        given.append(len(images))
        return predict_batch(self, images)

    monkeypatch.setattr(EnginePredictor, "predict_batch", counted)
    draw_image(tmp_path / "a.jpg", 60, 90)
    end = End(tmp_path / "a.jpg", tmp_path / "a.jpg", None)
    candidate = TimedModel("a", tiny_export(tmp_path / "a", batch=4))
    bench._serve(end, candidate, 0.1, ())
    facts, first, _, profile = end.said
    assert facts.at_once == 4 and facts.runs_as.endswith("; 4 images at once")
    assert given == [4, 4] and len(profile) == 2 and first.objects == 2


@pytest.mark.slow  # exports a network
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_exported_network_s_stages_are_told_apart(
    format: str, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the export extra")
    folder = tmp_path / "export"
    words = ["export", str(model), "--format", format, "--output", str(folder)]
    assert main(words) == 0
    draw_image(tmp_path / "a.jpg", 60, 90)
    (timing,) = time_detectors([TimedModel("a", folder)], [tmp_path / "a.jpg"], turns=2).timings
    assert list(timing.stages) == list(STAGES)
    p50 = {name: stage.p50_ms for name, stage in timing.stages.items()}
    assert min(p50[name] for name in ("backbone", "pyramid", "proposals", "heads")) > 0


def test_what_cannot_be_run_is_told_by_the_process_that_asks(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    folder = tiny_export(tmp_path / "tiny")
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"a.jpg: is not an image"):
        time_detectors([TimedModel("a", folder)], [tmp_path / "a.jpg"], turns=1)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match=r"tiny"):
        time_detectors([TimedModel("a", folder)], [tmp_path / "a.jpg"], turns=1)


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process that lacks it, and where the system has killed that."""
    sent: list[Exception] = []
    end = SimpleNamespace(recv=lambda: tmp_path, send=sent.append)
    monkeypatch.setattr(bench, "_open", lambda *_: np.empty(10**15))
    bench._serve(end, TimedModel("a", tmp_path), 0.5, ())
    (error,) = sent
    assert isinstance(error, InputError)
    told = r"a: cpu: out of memory: [\d.]+ GiB more were asked for, .* are free; fewer models at .*"
    assert re.fullmatch(told, str(error))
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    killed = SimpleNamespace(join=lambda: None, exitcode=-9)
    with pytest.raises(InputError, match=r"b: its process was killed, .* take less$"):
        bench._TimedProcess("b", killed, ours).ask(tmp_path)


def test_a_drawn_image_is_of_that_size(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg", 61, 90)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (90, 61)
        assert np.asarray(image).std() > 10
