"""What the benchmark of inference compares: drawn networks that are like trained ones."""

from typing import Any

import pytest
import torch


@pytest.fixture
def inference(beside_the_scripts: None) -> Any:
    import inference

    return inference


def test_drawn_weights_give_features_as_small_as_trained_ones(inference: Any) -> None:
    """Features of hundreds make all scores 1, and every rounding another choice of boxes."""
    ours, _ = inference.networks("detnet59", 96)
    image = inference.picture(96, 128)
    assert torch.equal(image * 255, (image * 255).round())  # what exports are given
    with torch.inference_mode():
        features = ours.backbone(ours.transform([image])[0].tensors)
        (found,) = ours([image])
    assert all(0.001 < value.std() < 1 for value in features.values())
    assert 0.05 < found["scores"][0] < 0.99 and len(found["scores"]) > 20


def test_agreement_needs_the_label_and_the_place(inference: Any) -> None:
    boxes = torch.tensor([[0.0, 0, 100, 100], [50, 0, 150, 100]])
    theirs = {"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.5])}
    ours = theirs | {"boxes": boxes.flip(0), "labels": torch.tensor([2, 1])}
    ours["scores"] = torch.tensor([0.5, 0.8])
    found = inference.agreement(ours, theirs)
    assert found == {"agreement_99": 1, "agreement_75": 1, "score_gap": pytest.approx(0.1)}
    found = inference.agreement(ours | {"labels": torch.tensor([2, 3])}, theirs)
    assert found == {"agreement_99": 0.5, "agreement_75": 0.5, "score_gap": 0}
    found = inference.agreement(ours | {"boxes": ours["boxes"] + 5}, theirs)
    assert found == {"agreement_99": 0, "agreement_75": 1, "score_gap": None}
    nothing = {name: value[:0] for name, value in ours.items()}
    assert inference.agreement(nothing, theirs)["agreement_75"] == 0
    assert inference.agreement(nothing, nothing)["agreement_75"] == 1
