import re

import numpy as np
import pytest
import torch

from detnet.engine.memory import OutOfMemory, saying_what_lacks

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


def as_cublas() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (take_too_much, r"3725290.30 GiB more were asked for, [\d.]+ .iB of [\d.]+ GiB are free"),
        (take_too_much_numpy, r"[\d.]+ GiB more were asked for, [\d.]+ .iB of [\d.]+ GiB are free"),
        (as_cuda, "2.50 GiB more were asked for, 11 MiB of 15.77 GiB are free"),
        (as_cublas, r"the request is not told, [\d.]+ .iB of [\d.]+ GiB are free"),
    ],
)
def test_one_line_says_what_lacks(work: object, told: str) -> None:
    assert callable(work)
    with pytest.raises(OutOfMemory) as caught, saying_what_lacks(CPU, lambda: "take less"):
        work()
    assert re.fullmatch(f"cpu: out of memory: {told}; take less", str(caught.value))


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(RuntimeError, match="^shapes differ$"),
        saying_what_lacks(CPU, lambda: "take less"),
    ):
        raise RuntimeError("shapes differ")
    with saying_what_lacks(CPU, lambda: "take less"):
        pass
