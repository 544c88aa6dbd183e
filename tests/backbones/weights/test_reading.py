"""Weights files of every kind are read, and nothing in them is ever run."""

import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from detnet.backbones.weights.pretrained import open_weights
from detnet.backbones.weights.reading import read_weights
from detnet.errors import InputError
from tests.backbones.weights.references import python2_pickle

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path).tensors


class Runs:
    """Would make a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "boxed", "nested"])
def test_files_of_torch(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"  # its content says what it is, not its name
    if kind == "safetensors":
        save_file(TENSORS, path)
    elif kind in ("zip", "old"):
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        content: dict[str, Any] = {"state_dict": TENSORS, "epoch": 90, "best": 0.75}
        torch.save({"model": content} if kind == "nested" else content, path)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(value, TENSORS[name]) for name, value in found.items())


@pytest.mark.parametrize("writer", ["python 2", "protocol 2", "protocol 4"])
def test_pickles_of_arrays(writer: str, tmp_path: Path) -> None:
    arrays = {
        "w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "by_columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "empty": np.zeros((0, 4), np.float32),
        "long": np.ones(1000, np.float32),
    }
    content = {"blobs": arrays, "cfg": "é", "n": [1, (2.5, None, True)], "x": np.float32(2)}
    raw = {
        "python 2": lambda: python2_pickle(content),
        "protocol 2": lambda: pickle.dumps(content, protocol=2),
        "protocol 4": lambda: pickle.dumps(content, protocol=4),
    }[writer]()
    path = tmp_path / "R-50.pkl"
    path.write_bytes(raw)
    found = read_tensors(path)
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].shape == value.shape
        assert np.array_equal(found[name].numpy(), value)


CALLS = [
    (os.system, ("touch {}",), r"(posix|nt)\.system"),
    (subprocess.Popen, (["touch", "{}"],), r"(subprocess|commands)\.Popen"),
    (eval, ("open('{}', 'w')",), r"asks for (builtins\.|__builtin__\.)?eval,"),
    (np.load, ("{}",), r"numpy\S*\.load"),
]


@pytest.mark.parametrize("save", ["torch", "old torch", "pickle", "protocol 0"])
@pytest.mark.parametrize(("call", "arguments", "named"), CALLS)
def test_code_is_refused_and_named(
    save: str, call: Any, arguments: tuple[Any, ...], named: str, tmp_path: Path
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "bad.pkl"
    filled = [
        [item.format(mark) for item in a] if isinstance(a, list) else a.format(mark)
        for a in arguments
    ]
    content = {"conv1_w": np.zeros(3, np.float32), "x": Runs(call, *filled)}
    if "torch" in save:
        content["conv1_w"] = torch.zeros(3)
        torch.save(content, path, _use_new_zipfile_serialization=save == "torch")
    else:
        path.write_bytes(pickle.dumps(content, protocol=0 if save == "protocol 0" else 2))
    with pytest.raises(InputError, match=named) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert "could run code" in message
    assert not mark.exists()


def opcodes(*lines: str) -> bytes:
    return "\n".join(lines).encode("latin1") + b"."


@pytest.mark.parametrize(
    "raw",
    [
        opcodes("cos", "system", "(S'true'", "tR"),
        opcodes("(S'true'", "ios", "system", ""),  # INST
        opcodes("c__builtin__", "getattr", "(cnumpy", "ndarray", "S'tobytes'", "tR"),
        opcodes("cnumpy.core.multiarray", "_reconstruct.__globals__", ""),
        opcodes("cnumpy", "ndarray.__init__.__globals__", ""),
        opcodes("cnumpy.core.multiarray", "_reconstruct", "}S'__name__'", "S'x'", "sb"),
        opcodes("cnumpy", "ndarray", "(N}S'__setstate__'", "I1", "stb"),  # to alter what it gets
        opcodes("cnumpy", "dtype", "(S'f4'", "tR(I3", "S'O8,'", "tb"),  # objects after all
        b"\x80\x02\x82\x01.",  # a class registered by number
        b"Pelsewhere\n.",  # an object kept outside
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x05",  # cut
        b"",
        b"not a pickle at all",
        b"\x80\x02}q\x00.",  # an empty dict
        b"\x80\x02K\x05.",  # a number
    ],
)
def test_other_pickles_are_one_line(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_pickle_alters_nothing_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x0c__defaults__)s\x86b.")
    with pytest.raises(InputError, match="alters what it is given"):
        read_tensors(path)


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"w": np.array([{}, []], dtype=object)}, protocol=2))
    with pytest.raises(InputError, match="array of type 'O8', which is no number"):
        read_tensors(path)


def test_cut_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"w": torch.rand(1000)}, whole)
    arrays = pickle.dumps({"w": np.ones(1000, np.float32)}, protocol=2)
    for number, raw in enumerate((whole.read_bytes()[:2000], arrays[:2000])):
        path = tmp_path / f"cut{number}.pth"
        path.write_bytes(raw)
        with pytest.raises(InputError, match=r"no(t a)? whole") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)
    wrong = arrays.replace(b"M\xe8\x03", b"M\xe9\x03", 1)  # another length than its bytes
    assert wrong != arrays
    (tmp_path / "wrong.pkl").write_bytes(wrong)
    with pytest.raises(InputError, match="shape"):
        read_tensors(tmp_path / "wrong.pkl")
    with pytest.raises(InputError, match="no such weights file"):
        read_tensors(tmp_path / "absent.pth")
    with pytest.raises(InputError, match=r"is a folder; give the file in it, as .*best\.safet"):
        open_weights(str(tmp_path))


def test_a_tensor_larger_than_its_data_is_refused(tmp_path: Path) -> None:
    """A few bytes that say they are a billion numbers."""
    torch.save({"stem.conv.weight": torch.zeros(1).expand(10**9)}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 5000
    with pytest.raises(InputError, match=r"a.pth: stem.conv.weight is not stored as it is said"):
        read_tensors(tmp_path / "a.pth")


def _pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [torch.save, _pickle])
def test_a_checkpoint_that_holds_itself_is_refused(save: Any, tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = {"state_dict": content}
    save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a.pth: (holds no tensors|no whole pickle of arrays)"):
        read_tensors(tmp_path / "a.pth")
