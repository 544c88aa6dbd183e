"""Which weights mean nothing under other categories; what is carried is tested with the recipes."""

import pytest
import torch

from detnet.detectors import DETECTORS, create


@pytest.mark.parametrize("detector", DETECTORS)
def test_layers_that_grow_with_the_classes_are_class_layers(detector: str) -> None:
    with torch.device("meta"):
        model, more = (
            create(detector, backbone="resnet50", num_classes=count, width=0.125)
            for count in (4, 9)
        )
    few, many = model.state_dict(), more.state_dict()
    assert few.keys() == many.keys()
    growing = {name for name in few if few[name].shape != many[name].shape}
    assert growing and all(map(model.is_class_layer, growing))
    assert not any(
        model.is_class_layer(name) for name in few if name.startswith(("backbone.", "rpn."))
    )
