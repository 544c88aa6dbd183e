import pytest
import torch
from torch import nn

from detnet.backbones.base import Classifier
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import find_supernet
from detnet.search.scoring.evaluator import (
    batch_norms,
    extract_network,
    finite_statistics,
    recalibrate,
)

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
