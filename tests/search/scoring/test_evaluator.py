from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detnet.backbones.base import Classifier
from detnet.backbones.detnet import DETNET59
from detnet.backbones.spaces.detnet_space import DETNET
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import find_supernet, parse_path, take_path
from detnet.detectors import create
from detnet.search.scoring.evaluator import (
    NonFinite,
    ScoringBudget,
    batch_norms,
    extract_network,
    finite_statistics,
    own_randomness,
    part_order,
    recalibrate,
    recalibration_batches,
    refuse_non_finite,
)


def test_every_image_is_recalibrated_on_before_any_is_again() -> None:
    batches = recalibration_batches(10, ScoringBudget(26, 4), seed=1, flip=0.5)
    assert [len(batch) for batch in batches] == [4] * 6
    keys = [key for batch in batches for key in batch]
    assert Counter(Counter(index for index, _ in keys).values()) == {2: 6, 3: 4}
    assert len({index for index, _ in keys[:10]}) == 10
    assert 0 < sum(flip for _, flip in keys) < 24


def test_recalibration_goes_by_the_seed() -> None:
    one, same, other = (
        recalibration_batches(50, ScoringBudget(16), seed=s, flip=0.5) for s in (1, 1, 2)
    )
    assert one == same != other
    assert not any(
        flip
        for batch in recalibration_batches(9, ScoringBudget(8), seed=1, flip=0.0)
        for _, flip in batch
    )


def test_fewer_images_than_a_batch_make_one() -> None:
    assert [len(b) for b in recalibration_batches(9, ScoringBudget(3, 8), seed=0, flip=0.0)] == [3]


def test_others_draw_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with own_randomness(7, torch.device("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn) and torch.equal(torch.rand(3), expected)


def test_parts_are_mixed() -> None:
    order = part_order(100, 0)
    assert sorted(order) == list(range(100)) and 30 < np.mean(order[:25]) < 70


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused_wherever_it_is(bad: float) -> None:
    class Levels(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"p2": [torch.ones(2), x]}

    module = Levels()
    refuse_non_finite(module)
    module(torch.ones(3))
    with pytest.raises(NonFinite, match="Levels"):
        module(torch.tensor([1.0, bad]))


SPACE = ShuffleSpace(8, (ShuffleStage("c2", 2, 16), ShuffleStage("c3", 1, 24)), tail_channels=16)
MEAN = "backbone.stem.bn.running_mean"
OPTIONS = {"width": 1.0, "stride_in": "1x1", "norm": "batch"}


def supernet_classifier() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(SPACE.supernet(**OPTIONS), 5)
    for module in batch_norms(model):
        module.running_mean.uniform_(-1, 1)
    return model.eval()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_worked_out_by_hand(momentum: float | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, momentum=0.3))
    model[1].running_mean.fill_(7.0)
    batches = [torch.rand(2, 3, 4, 5), torch.rand(3, 3, 4, 5) * 4]
    recalibrate(model, batches, model, momentum=momentum)
    means, variances = [], []
    for batch in batches:
        values = model[0](batch).transpose(0, 1).flatten(1)
        means.append(values.mean(1)), variances.append(values.var(1))
    if momentum is None:
        mean, variance = sum(means) / 2, sum(variances) / 2
    else:
        mean = 0.9 * 0.1 * means[0] + 0.1 * means[1]
        variance = 0.9 * (0.9 + 0.1 * variances[0]) + 0.1 * variances[1]
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert not model.training and not model[1].training and model[1].momentum == 0.3
    assert all(buffer.grad_fn is None for buffer in model.buffers())


def test_a_network_alone_computes_what_its_supernet_does() -> None:
    model, images = supernet_classifier(), torch.rand(2, 3, 32, 48)
    for path in ((3, 1, 0), (0, 2, 3)):
        find_supernet(model).take(path)
        one = extract_network(model, path, **OPTIONS)
        assert find_supernet(one) is None
        assert torch.equal(one.eval()(images), model(images))


PATHS_OF_DETNET = {
    "DetNet-59": DETNET.path_of(DETNET59),
    "ResNet-50, without c6": parse_path("0 0 00 011101 200000"),
    "narrow c5, wide c6": parse_path("0 1 20 100210 111201"),
    "wide c5, narrow c6": parse_path("1 0 12 111110 100210"),
}


@pytest.mark.parametrize("name", PATHS_OF_DETNET)
@pytest.mark.parametrize("detector", ["", "faster_rcnn_fpn", "faster_rcnn", "ssd", "yolo"])
def test_a_network_of_detnets_space_computes_what_its_supernet_does(
    detector: str, name: str
) -> None:
    """Also where its levels are fewer or narrower than those that the supernet was built with."""
    torch.manual_seed(2)
    options: dict[str, Any] = {"width": 0.125}
    if detector:
        space = {"backbone": "supernet", "backbone_options": {"space": "detnet"}}
        model = create(detector, num_classes=3, min_size=64, max_size=96, **space, **options)
        images: Any = [torch.rand(3, 64, 96)]
    else:
        model, images = Classifier(DETNET.supernet(**options), 5), torch.rand(2, 3, 64, 96)
    take_path(model.eval(), PATHS_OF_DETNET[name])
    one = extract_network(model, PATHS_OF_DETNET[name], **options).eval()
    with torch.no_grad():
        torch.testing.assert_close(one(images), model(images), rtol=0, atol=0)


def test_parameters_are_shared_and_statistics_are_not() -> None:
    model = supernet_classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = extract_network(model, (1, 3, 2), **OPTIONS)
    assert one.fc.weight is model.fc.weight
    assert one.backbone.stem.conv.weight.data_ptr() == model.backbone.stem.conv.weight.data_ptr()
    recalibrate(one, [torch.rand(2, 3, 32, 48)], one)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(one.state_dict()[MEAN], before[MEAN])


def test_frozen_parts_keep_their_statistics() -> None:
    model = supernet_classifier()
    model.backbone.freeze(["stem"])
    one = extract_network(model, (0, 0, 0), **OPTIONS)
    recalibrate(one, [torch.rand(2, 3, 32, 48)], one)
    mean = one.backbone.stem.bn.running_mean
    assert torch.equal(mean, model.backbone.stem.bn.running_mean)
    assert one.backbone.stem.bn not in batch_norms(one)


def test_dropout_rests_where_the_norms_alone_learn() -> None:
    model = supernet_classifier()
    one = extract_network(model, (0, 0, 0), **OPTIONS)
    seen = []
    one.tail.dropout.register_forward_hook(lambda module, *_: seen.append(module.training))
    recalibrate(one, [torch.rand(2, 3, 32, 48)], one, whole=False)
    recalibrate(one, [torch.rand(2, 3, 32, 48)], one)
    assert seen == [False, True]


def test_statistics_that_are_no_numbers_are_seen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    assert finite_statistics(model)
    recalibrate(model, [torch.full((1, 3, 4, 5), torch.inf)], model)
    assert not finite_statistics(model)


def test_a_model_without_supernet_has_no_paths() -> None:
    with pytest.raises(ValueError, match="no paths"):
        extract_network(nn.Linear(2, 2), (0,))
