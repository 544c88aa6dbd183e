import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.base import Classifier
from detnet.backbones.blocks import StrideIn
from detnet.backbones.detnet import DETNET59
from detnet.backbones.resnet import RESNET50
from detnet.backbones.spaces.detnet_space import DETNET, DetNetSpace, DetNetSupernet, StageChoices
from detnet.backbones.spaces.space import parse_path
from detnet.inference.fuse import fuse
from tests.contracts import check_freezing

WIDTH = 0.125
IMAGES = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
RESNET = DETNET.path_of(RESNET50)
ABSENT = parse_path("0 0 00 000000 200000")


def draws(space: DetNetSpace, count: int, seed: int = 1) -> list[tuple[int, ...]]:
    counts = [len(gene.choices) for gene in space.genes]
    paths = np.random.default_rng(seed).integers(counts, size=(count, len(counts)))
    return [space.check(path) for path in paths.tolist()]


@pytest.fixture(scope="module")
def trained() -> DetNetSupernet:
    """With statistics and scales that tell one norm from another."""
    return _disturbed(DETNET.supernet(width=WIDTH))


def _disturbed(supernet: DetNetSupernet) -> DetNetSupernet:
    generator = torch.Generator().manual_seed(2)
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                values.uniform_(0.5, 1.5, generator=generator)
            for values in (layer.bias.data, layer.running_mean):
                values.uniform_(-0.5, 0.5, generator=generator)
    return supernet.eval()


@pytest.mark.parametrize("path", [*draws(DETNET, 6), RESNET, DETNET.path_of(DETNET59)])
def test_a_path_is_the_network_it_picks(trained: DetNetSupernet, path: tuple[int, ...]) -> None:
    trained.take(path)
    network = DETNET.network(path, width=WIDTH).eval()
    network.load_state_dict(trained.weights_of(path))
    with torch.no_grad():
        found, expected = trained(IMAGES), network(IMAGES)
    strides = {info.name: info.stride for info in trained.feature_info}
    for info in network.feature_info:
        level = found[info.name]
        assert torch.equal(level[:, : info.channels], expected[info.name])
        assert not level[:, info.channels :].any()
        assert strides[info.name] == info.stride


def test_stride_in_the_3x3() -> None:
    stride_in: StrideIn = "3x3"
    supernet = _disturbed(DETNET.supernet(width=WIDTH, stride_in=stride_in))
    supernet.take(RESNET)
    network = DETNET.network(RESNET, width=WIDTH, stride_in=stride_in).eval()
    network.load_state_dict(supernet.weights_of(RESNET))
    with torch.no_grad():
        assert torch.equal(supernet(IMAGES)["c5"], network(IMAGES)["c5"])


def test_weights_are_not_copied(trained: DetNetSupernet) -> None:
    own = {value.data_ptr() for value in trained.state_dict().values()}
    assert {value.data_ptr() for value in trained.weights_of(RESNET).values()} <= own


@pytest.mark.parametrize("path", [(0,) * len(DETNET.genes), RESNET, ABSENT])
def test_levels_are_as_announced_whatever_the_path(
    trained: DetNetSupernet, path: tuple[int, ...]
) -> None:
    trained.take(path)
    with torch.no_grad():
        features = trained(IMAGES)
    assert [info.name for info in trained.feature_info] == list(features)
    assert [info.channels for info in trained.feature_info] == [32, 64, 128, 256, 256]
    for info in trained.feature_info:
        expected = (2, info.channels, 64 // info.stride, 128 // info.stride)
        assert features[info.name].shape == expected


def test_an_absent_stage_is_stood_in_for_by_every_second_cell(trained: DetNetSupernet) -> None:
    trained.take(ABSENT)
    with torch.no_grad():
        features = trained(IMAGES)
    assert torch.equal(features["c6"], features["c5"][:, :, ::2, ::2])
    assert [info.stride for info in trained.feature_info] == [4, 8, 16, 16, 32]


def test_the_stand_in_is_as_wide_as_the_stage_it_stands_for() -> None:
    space = DetNetSpace(
        rows=(StageChoices("c2", (1,), (64, 128)), StageChoices("c3", (1, 0), (32,)))
    )
    supernet = space.supernet()
    for path in ((1, 0), (1, 1)):
        supernet.take(path)
        assert supernet(IMAGES)["c3"].shape[1] == supernet.feature_info[1].channels == 128


@pytest.mark.parametrize("path", draws(DETNET, 3, seed=5))
def test_only_the_path_gets_gradients(path: tuple[int, ...]) -> None:
    supernet = DETNET.supernet(width=WIDTH).train()
    supernet.take(path)
    chosen = {value.data_ptr() for value in supernet.weights_of(path).values()}
    before = {name: value.clone() for name, value in supernet.named_buffers()}
    sum(feature.sum() for feature in supernet(IMAGES).values()).backward()
    for name, parameter in supernet.named_parameters():
        assert (parameter.grad is not None) == (parameter.data_ptr() in chosen), name
    for name, value in supernet.named_buffers():
        assert torch.equal(value, before[name]) != (value.data_ptr() in chosen), name


def test_a_switch_leaves_nothing_behind(trained: DetNetSupernet) -> None:
    def run(path: tuple[int, ...]) -> dict[str, Tensor]:
        trained.take(path)
        with torch.no_grad():
            features: dict[str, Tensor] = trained(IMAGES)
        return features

    first, *others = draws(DETNET, 4, seed=8)
    expected = run(first)
    for path in others:
        run(path)
    assert all(torch.equal(level, expected[name]) for name, level in run(first).items())


def test_a_copy_has_a_path_of_its_own(trained: DetNetSupernet) -> None:
    trained.take(RESNET)
    other = copy.deepcopy(trained)
    other.take(ABSENT)
    with torch.no_grad():
        assert trained(IMAGES)["c5"].shape[-2:] == (2, 4)
        assert other(IMAGES)["c5"].shape[-2:] == (4, 8)


def test_norms_can_be_folded_and_the_path_switched_then(trained: DetNetSupernet) -> None:
    folded = fuse(trained)
    for path in draws(DETNET, 3, seed=4):
        trained.take(path)
        folded.take(path)
        with torch.no_grad():
            for name, level in trained(IMAGES).items():
                torch.testing.assert_close(folded(IMAGES)[name], level, rtol=1e-3, atol=1e-3)


def test_parts_can_be_frozen() -> None:
    space = DetNetSpace(
        rows=(StageChoices("c2", (1,), (32,)), StageChoices("c3", (1,), (64,), strides=(2, 1)))
    )
    check_freezing(space.supernet(), ("stem", "c2"))


def test_a_classifier_on_it() -> None:
    classifier = Classifier(DETNET.supernet(width=WIDTH), 7)
    assert classifier(IMAGES).shape == (2, 7)


def test_the_first_path_is_that_of_first_choices() -> None:
    assert DETNET.supernet(width=WIDTH).path == (0,) * len(DETNET.genes)
