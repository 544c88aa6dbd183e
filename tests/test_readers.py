"""The examples that read an export run where neither torch nor detnet is installed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs._tools import house
from tests.inference.engines.tiny import tiny_export

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
    folder = tiny_export(tmp_path / "export", format, masks=True)
    Image.fromarray(np.full((60, 100, 3), 204, np.uint8)).save(tmp_path / "a.png")
    words = [python, "-I", reader, folder, tmp_path / "a.png", tmp_path / "found.png"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
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
