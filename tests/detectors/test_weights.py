"""Which weights mean nothing under other categories."""

import pytest

from detnet.detectors import DETECTORS
from tests.contracts import check_class_layers


@pytest.mark.parametrize("detector", DETECTORS)
def test_layers_that_grow_with_the_classes_are_class_layers(detector: str) -> None:
    check_class_layers(detector)
