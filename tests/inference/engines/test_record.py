"""What model.json says, and every way in which a folder can be wrong, each one line."""

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.files import sha256_of
from detnet.inference.engines import record
from detnet.inference.engines.record import (
    check_precision,
    chosen_threads,
    is_export,
    read_export,
)
from tests.inference.engines.tiny import CATEGORIES, IMAGES, tiny_export


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "a", batch=2)
    found = read_export(folder)
    assert is_export(folder) and not is_export(tmp_path)
    assert found.categories == CATEGORIES and found.images == IMAGES and found.batch == 2
    assert found.files == {"model.onnx": sha256_of(folder / "model.onnx")}
    found.write(folder)
    assert read_export(folder) == found


def change(folder: Path, **values: Any) -> None:
    place = folder / "model.json"
    content = json.loads(place.read_text())
    place.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"version": 99}, "of version 99, and this detnet reads up to 1"),
        ({"version": "1"}, "version: must be a whole number"),
        ({"more": 1}, "'more' is not known"),
        ({"format": "tflite"}, "format: must be 'onnx' or 'openvino'"),
        ({"batch": 0}, "must be 1 or more"),
        ({"network": "../model.onnx"}, "names a file outside of its folder"),
        ({"files": {"/etc/passwd": "0"}}, "names a file outside of its folder"),
        ({"files": {}}, "says nothing of its network"),
        ({"files": {"model.onnx": "0" * 64}}, "is not the file that was exported"),
        ({"categories": [{"id": 1}]}, "category 0 has no whole id and name"),
        ({"runtime": {"openvino": "1"}}, "names no runtime of onnx"),
        ({"runtime": {"onnxruntime": "99.1"}}, "needs onnxruntime 99.1 or newer"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    folder = tiny_export(tmp_path / "a")
    change(folder, **values)
    with pytest.raises(InputError) as caught:
        read_export(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_files_that_are_missing_cut_or_no_json(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "a")
    network = folder / "model.onnx"
    content = network.read_bytes()
    network.write_bytes(content[:-1])
    with pytest.raises(InputError, match="model.onnx: is not the file that was exported"):
        read_export(folder)
    network.unlink()
    with pytest.raises(InputError, match="model.onnx: is missing"):
        read_export(folder)
    (folder / "model.json").write_text('{"version": 1')
    with pytest.raises(InputError, match="not JSON, or cut off"):
        read_export(folder)
    with pytest.raises(InputError, match="holds no export"):
        read_export(tmp_path)


def test_a_runtime_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_export(tmp_path / "a")

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(record.importlib.metadata, "version", missing)
    with pytest.raises(InputError, match=r"needs onnxruntime: pip install 'detnet\[export\]'"):
        read_export(folder)


@pytest.mark.parametrize(
    ("format", "precision", "said"),
    [
        ("onnix", "fp32", "did you mean 'onnx'"),
        ("openvino", "fp61", "did you mean 'fp16'"),
        ("onnx", "bf16", "bf16 is no precision of onnx, .* --format openvino"),
    ],
)
def test_unknown_formats_and_precisions(format: str, precision: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_precision(format, precision)


def test_threads_are_those_that_the_process_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert chosen_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(InputError, match="OMP_NUM_THREADS=many"):
        chosen_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        assert chosen_threads() == 1
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        assert chosen_threads() is None
