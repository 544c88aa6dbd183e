import re

import numpy as np
import pytest
import torch

from detnet.engine.memory import (
    OutOfMemory,
    explaining_out_of_memory,
    is_out_of_memory,
    out_of_memory_line,
)
from detnet.errors import InputError

CPU = torch.device("cpu")
# As torch 2.15 says it.
CUDA_TEXT = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 15.77 GiB of "
    "which 10.88 MiB is free. Process 4242 has 15.75 GiB memory in use."
)


def take_too_much() -> None:
    torch.empty(10**15)


def take_too_much_numpy() -> None:
    np.empty(10**15)


def as_cuda() -> None:
    raise torch.OutOfMemoryError(CUDA_TEXT)


def as_onnxruntime() -> None:
    text = "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    raise Exception(f"{text}Failed to allocate memory for requested buffer of size 46080000")


def as_runtimes_load() -> None:
    raise InputError("model.onnx: ONNX Runtime does not take it: failed:std::bad_alloc")


def as_cublas() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (take_too_much, r"3725290.30 GiB more were asked for, [\d.]+ .iB of [\d.]+ GiB are free"),
        (take_too_much_numpy, r"[\d.]+ GiB more were asked for, [\d.]+ .iB of [\d.]+ GiB are free"),
        (as_cuda, "2.50 GiB more were asked for, 11 MiB of 15.77 GiB are free"),
        (as_onnxruntime, r"44 MiB more were asked for, [\d.]+ .iB of [\d.]+ GiB are free"),
        (as_runtimes_load, r"the request is not told, [\d.]+ .iB of [\d.]+ GiB are free"),
        (as_cublas, r"the request is not told, [\d.]+ .iB of [\d.]+ GiB are free"),
    ],
)
def test_one_line_says_what_lacks(work: object, told: str) -> None:
    assert callable(work)
    with pytest.raises(OutOfMemory) as caught, explaining_out_of_memory(CPU, lambda: "take less"):
        work()
    assert re.fullmatch(f"cpu: out of memory: {told}; take less", str(caught.value))


def test_a_line_is_made_once_and_names_the_device() -> None:
    with (
        pytest.raises(OutOfMemory) as caught,
        explaining_out_of_memory("cpu", lambda: "take less"),
        explaining_out_of_memory(CPU, lambda: "take half"),
    ):
        take_too_much_numpy()
    assert str(caught.value).endswith("; take half") and not is_out_of_memory(caught.value)
    assert out_of_memory_line(MemoryError(), "take less").startswith(
        "cpu: out of memory: the request is not"
    )
    assert out_of_memory_line(RuntimeError(CUDA_TEXT), "take less").startswith(
        "cuda: out of memory: 2.50 GiB"
    )


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(RuntimeError, match="^shapes differ$"),
        explaining_out_of_memory(CPU, lambda: "take less"),
    ):
        raise RuntimeError("shapes differ")
    with explaining_out_of_memory(CPU, lambda: "take less"):
        pass
