"""The examples that read an export run where neither torch nor detnet is installed."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detnet
from docs._tools import house
from tests.inference.engines.tiny import IMAGES, tiny_export

ROOT = Path(__file__).parents[1]
READERS = {
    "onnx": ("onnxruntime", ROOT / "examples/08_read_an_export_with_onnxruntime.py"),
    "openvino": ("openvino", ROOT / "examples/07_read_an_export_with_openvino.py"),
}


@pytest.mark.parametrize("format", READERS)
def test_a_reader_has_forty_lines(format: str) -> None:
    runtime, reader = READERS[format]
    assert house.lines_of_code(reader) <= 40
    imports = re.findall(r"^(?:import|from) (\w+)", reader.read_text(), re.MULTILINE)
    assert set(imports) == {"json", "sys", "pathlib", "numpy", "PIL", runtime}


@pytest.mark.slow
@pytest.mark.parametrize("format", READERS)
def test_a_reader_runs_without_torch_and_detnet(format: str, tmp_path: Path) -> None:
    runtime, reader = READERS[format]
    python = environment(tmp_path / "venv", runtime)
    for name in ("torch", "detnet"):
        absent = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True)
        assert absent.returncode != 0
    pixels = np.full((60, 100, 3), 204, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def run(folder: Path) -> list[str]:
        words = [python, "-I", reader, folder, tmp_path / "a.png", tmp_path / "found.png"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    squares = replace(IMAGES, resize="square")
    for number, images in enumerate((replace(IMAGES, size=(64, 96)), squares)):
        folder = tiny_export(tmp_path / str(number), format, masks=True, images=images)
        found = detnet.load(folder, score_threshold=0.1).predict(pixels)
        rows = zip(found.names, found.scores, found.boxes, strict=True)
        assert run(folder) == [
            " ".join([f"{name} {score:.2f}", *(f"{side:.1f}" for side in box)])
            for name, score, box in rows
        ]
    assert run(tiny_export(tmp_path / "export", format, masks=True)) == [
        "dog 0.80 0.0 0.0 50.0 30.0",
        "cat 0.40 50.0 0.0 100.0 60.0",
    ]
    drawn = np.asarray(Image.open(tmp_path / "found.png"))
    assert (drawn[20, 40] != 204).any()  # the mask's right half
    assert (drawn[50, 20] == 204).all()  # below the first box


def environment(folder: Path, runtime: str) -> Path:
    """An environment with the runtime, numpy and pillow of the lock; skips where none is made."""
    locked = (ROOT / "requirements.lock").read_text()
    wanted = [
        re.search(rf"^{name}==\S+", locked, re.MULTILINE)[0]
        for name in (runtime, "numpy", "pillow")
    ]
    python = folder / "bin" / "python"
    for words in (
        [sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder],
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *wanted],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no environment could be made: {done.stderr.strip()[-200:]}")
    return python
