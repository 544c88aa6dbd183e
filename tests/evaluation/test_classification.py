import numpy as np
import pytest
import torch

from detnet.evaluation.classification import Accuracy, format_errors, ranks, summarise


def test_places_agree_with_sorting() -> None:
    logits = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 12
    order = logits.argsort(1, descending=True)
    expected = [
        row.tolist().index(label) for row, label in zip(order, labels.tolist(), strict=True)
    ]
    assert ranks(logits, labels).tolist() == expected


def test_a_network_that_tells_nothing_gets_nothing_right() -> None:
    labels = torch.tensor([0, 2])
    assert ranks(torch.zeros(2, 3), labels).tolist() == [2, 2]
    assert ranks(torch.full((2, 3), float("nan")), labels).tolist() == [2, 2]
    bad = torch.tensor([[1.0, float("nan"), 0.0], [5.0, 7.0, 6.0]])
    assert ranks(bad, labels).tolist() == [1, 1]


def test_errors_are_shares_of_images() -> None:
    found, labels = np.array([0, 4, 5, 0, 9]), np.array([0, 0, 1, 1, 1])
    scores = summarise(found, labels, ["cat", "dog", "emu", "fox", "gnu", "hen"])
    assert scores.top1_error == pytest.approx(3 / 5) and scores.top1 == pytest.approx(2 / 5)
    assert scores.top5_error == pytest.approx(2 / 5) and scores.images == 5
    assert scores.per_class["dog"].top5_error == pytest.approx(2 / 3)
    assert scores.per_class["emu"] == Accuracy(None, None, None, None, 0)


def test_among_five_classes_everything_is_among_the_first_five() -> None:
    """So that says nothing: it is absent, not an error of 0."""
    found, labels = np.array([0, 4, 2]), np.array([0, 1, 4])
    five = summarise(found, labels, list("abcde"))
    assert five.top1_error == pytest.approx(2 / 3) and five.per_class["b"].top1 == 0
    for row in (five, *five.per_class.values()):
        assert row.top5 is None and row.top5_error is None
    assert "top-5" not in format_errors(five) and "top-1 error 66.67 %" in format_errors(five)
    six = summarise(found, labels, list("abcdef"))
    assert (six.top5, six.top5_error) == (1, 0)
    assert "top-5 error 0.00 %" in format_errors(six)


def test_no_images_and_wrong_labels() -> None:
    nothing = np.array([], dtype=np.int64)
    assert summarise(nothing, nothing, ["cat"]).top1_error is None
    with pytest.raises(ValueError, match="labels must lie in 0 … 0, got 1"):
        summarise(np.array([0]), np.array([1]), ["cat"])


def test_text_names_the_hardest_classes() -> None:
    found, labels = np.array([0, 4, 5, 0, 9]), np.array([0, 0, 1, 1, 1])
    names = ["cat", "doggy", "emu", "fox", "gnu", "hen"]
    text = format_errors(summarise(found, labels, names), worst=1)
    assert text.splitlines() == [
        "top-1 error 60.00 %",
        "top-5 error 40.00 %",
        "5 images of 6 classes",
        "",
        "hardest classes, top-1 error",
        "  doggy   66.67 %",
    ]
    nothing = np.array([], dtype=np.int64)
    assert format_errors(summarise(nothing, nothing, ["cat"])) == "no images to evaluate on"
