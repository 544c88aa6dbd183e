"""What tests of the engine share."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def rounded_products() -> Iterator[None]:
    """A GPU's products in fp32 round their factors to 10 bits, as torch's convolutions do."""
    settings: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]
    before = [each.fp32_precision for each in settings], torch.backends.cudnn.benchmark
    for each in settings:
        each.fp32_precision = "tf32"
    yield
    for each, precision in zip(settings, before[0], strict=True):
        each.fp32_precision = precision
    torch.backends.cudnn.benchmark = before[1]
