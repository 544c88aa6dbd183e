"""A form gives the detections of its detector, whatever the size of the images."""

import pytest
import torch

from detnet.detectors import DETECTORS, create
from detnet.detectors.base import Detector, SimpleDetector
from detnet.detectors.export.form import export_form
from detnet.errors import InputError
from tests.contracts import check_form, sure_detector


@pytest.mark.parametrize("backbone", ["resnet50", "detnet59"])
@pytest.mark.parametrize("detector", list(DETECTORS))
def test_form_equals_detector(detector: str, backbone: str) -> None:
    check_form(sure_detector(detector, backbone=backbone))


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(InputError, match="SimpleDetector cannot be exported"):
        export_form(SimpleDetector())
    model: Detector = create("retinanet", num_classes=4, width=0.125)
    model.post_processor.suppress = lambda boxes, scores, labels: (labels, scores)
    with pytest.raises(InputError, match="soft"):
        export_form(model)


def test_the_model_is_left_alone() -> None:
    model = create("retinanet", num_classes=4, width=0.125)
    kinds = [type(module) for module in model.modules()]
    form = export_form(model)
    assert [type(module) for module in model.modules()] == kinds
    assert model.training and not form.training
    torch.testing.assert_close(form.model.state_dict(), model.state_dict())
