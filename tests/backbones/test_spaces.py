"""The contract of spaces, for each that comes with the package."""

import pytest

from detnet.backbones.spaces.space import SPACES, read_space
from tests.contracts import check_space


@pytest.mark.parametrize("name", SPACES)
def test_contract(name: str) -> None:
    for seed in range(2):
        check_space(read_space(name), seed=seed)
