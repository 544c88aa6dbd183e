import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.backbones.detnas import LARGE, LARGE_WIDENED, SMALL
from detnet.backbones.shuffle_block import BLOCK_KINDS
from detnet.backbones.spaces.shuffle_space import (
    ShuffleSpace,
    ShuffleStage,
    ShuffleSupernet,
    describe_path,
)
from detnet.backbones.spaces.space import find_supernet, parse_path, read_space
from detnet.engine.optim import sgd
from detnet.errors import InputError

TINY = ShuffleSpace(stem_channels=8, rows=(ShuffleStage("c2", 1, 24), ShuffleStage("c3", 2, 48)))


def test_positions_follow_one_another() -> None:
    places = [(p.stage, p.index, p.in_channels, p.out_channels, p.stride) for p in TINY.positions()]
    assert places == [("c2", 0, 8, 24, 2), ("c3", 0, 24, 48, 2), ("c3", 1, 48, 48, 1)]


@pytest.mark.parametrize(("space", "blocks"), [(SMALL, 20), (LARGE, 40), (LARGE_WIDENED, 40)])
def test_the_spaces_have_the_paper_s_sizes(space: ShuffleSpace, blocks: int) -> None:
    positions = list(space.positions())
    assert len(positions) == blocks
    assert [p.index for p in positions if p.stride == 2] == [0, 0, 0, 0]
    assert len(space.choices) == 4


@pytest.mark.parametrize("width", [0.05, 0.125, 0.3, 0.5, 2, 8])
@pytest.mark.parametrize("space", [SMALL, LARGE, LARGE_WIDENED])
def test_scaled_channels_can_be_halved_and_grow(space: ShuffleSpace, width: float) -> None:
    scaled = space.scaled(width)
    channels = [scaled.stem_channels, *(row.channels for row in scaled.rows)]
    assert all(count % 8 == 0 for count in (*channels, scaled.tail_channels))
    assert all(after > before for before, after in zip(channels, channels[1:], strict=False))
    assert [row.blocks for row in scaled.rows] == [row.blocks for row in space.rows]


def test_width_1_keeps_the_published_counts() -> None:
    assert LARGE_WIDENED.scaled(1.0).rows[0].channels == 172  # no multiple of 8
    assert [row.channels for row in SMALL.scaled(0.5).rows] == [32, 80, 160, 320]


def test_levels_of_a_path() -> None:
    info = describe_path(TINY, parse_path("2 30"))
    assert [(i.name, i.channels, i.stride) for i in info] == [("c2", 24, 4), ("c3", 48, 8)]
    # 3 + 6 × 2; then 2 × 4 and twice 2 × 8 of the Xception block, 2 × 8 of the 3×3.
    assert [i.receptive_field for i in info] == [15, 15 + 8 + 32 + 16]


def test_other_choices_can_be_given() -> None:
    narrow = dataclasses.replace(TINY, choices=BLOCK_KINDS[:2])
    assert len(list(narrow.chosen((0, 1, 1)))) == 3
    with pytest.raises(
        InputError, match="entry 2 of the path is 3; the choices of c3's block 1 are 0 to 1"
    ):
        list(narrow.chosen((0, 1, 3)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ((0, 1), "a path through this space has 3 entries, got 2"),
        ((0, 4, 0), "entry 1 of the path is 4; the choices of c3's block 0 are 0 to 3"),
        ((-1, 0, 0), "entry 0 of the path is -1"),
        (("1", 0, 0), "entry 0 of the path is '1'; the choices of c2's block 0 are 0 to 3"),
        ((0, 0.5, 0), "entry 1 of the path is 0.5"),  # was taken for 0
        ((0, None, 0), "entry 1 of the path is None"),
    ],
)
def test_a_path_that_does_not_fit(path: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(TINY.chosen(path))


@pytest.mark.parametrize("width", [0, -1, 9])
def test_a_width_out_of_range(width: float) -> None:
    with pytest.raises(InputError, match=rf"\(0, 8\], got {width}"):
        TINY.scaled(width)


SPACE = ShuffleSpace(
    stem_channels=8, rows=(ShuffleStage("c2", 2, 16), ShuffleStage("c3", 2, 32)), tail_channels=40
)
PATHS = [(0, 0, 0, 0), (3, 1, 2, 0), (2, 3, 1, 3)]


TABLE = SPACE.to_json()


def trained_a_little(net: nn.Module) -> nn.Module:
    """Batch statistics that are not those of a fresh network."""
    net.train()
    with torch.no_grad():
        net(torch.rand(4, 3, 64, 96))
    return net


@pytest.mark.parametrize("path", PATHS)
def test_a_path_equals_the_network_alone(path: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    supernet = SPACE.supernet()
    supernet.take(path)
    trained_a_little(supernet)
    alone = SPACE.network(path)
    alone.load_state_dict(supernet.weights_of(path))
    images = torch.rand(2, 3, 64, 96)
    found, expected = supernet.eval()(images), alone.eval()(images)
    assert list(found) == list(expected) == ["c2", "c3"]
    for name in found:
        assert torch.equal(found[name], expected[name])
    infos = [(info.name, info.channels, info.stride) for info in supernet.feature_info]
    assert infos == [(info.name, info.channels, info.stride) for info in alone.feature_info]


def test_weights_are_not_copied() -> None:
    supernet = SPACE.supernet()
    weights = supernet.weights_of(PATHS[1])
    own = {value.data_ptr() for value in supernet.state_dict().values() if value.numel() > 1}
    assert all(value.data_ptr() in own for value in weights.values() if value.numel() > 1)


def test_what_is_off_the_path_has_no_gradient_momentum_or_decay() -> None:
    torch.manual_seed(0)
    supernet = SPACE.supernet()
    model = Classifier(supernet, 5).train()
    optimizer = sgd(model, lr=0.1, weight_decay=0.1)
    taken = set()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for path in PATHS[1:]:
        supernet.take(path)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(torch.rand(4, 3, 64, 96)), torch.arange(4)).backward()
        on_path = {value.data_ptr() for value in supernet.weights_of(path).values()}
        for name, parameter in supernet.named_parameters():
            assert (parameter.grad is not None) == (parameter.data_ptr() in on_path), name
        taken |= on_path
        optimizer.step()
    untouched = [
        name for name, parameter in supernet.named_parameters() if parameter.data_ptr() not in taken
    ]
    assert untouched
    for name in untouched:
        assert torch.equal(before[f"backbone.{name}"], supernet.state_dict()[name]), name
    kept = [p for p in supernet.parameters() if p.data_ptr() not in taken]
    assert not any("momentum_buffer" in optimizer.state[parameter] for parameter in kept)


def test_spreading_gives_equal_results_where_only_the_kernel_grows() -> None:
    torch.manual_seed(0)
    supernet = SPACE.supernet().train()
    supernet.take((1, 1, 1, 1))
    supernet.spread()
    images = torch.rand(4, 3, 64, 96)
    expected = supernet(images)
    supernet.take((2, 1, 2, 1))
    for name, feature in supernet(images).items():
        torch.testing.assert_close(feature, expected[name])


def test_spreading_brings_xception_near() -> None:
    torch.manual_seed(0)
    supernet = SPACE.supernet().train()
    images = torch.rand(4, 3, 64, 96)

    @torch.no_grad()
    def likeness() -> float:
        supernet.take((1, 1, 1, 1))
        one = supernet(images)["c3"].flatten()
        supernet.take((1, 3, 1, 3))  # at stride 1, where only norms and ReLUs are in between
        other = supernet(images)["c3"].flatten()
        return float(torch.corrcoef(torch.stack([one, other]))[0, 1])

    before = likeness()
    supernet.take((1, 1, 1, 1))
    supernet.spread()
    assert likeness() > before + 0.2


def test_spreading_cuts_larger_kernels() -> None:
    supernet = SPACE.supernet()
    supernet.take((2, 2, 2, 2))
    supernet.spread()
    blocks = supernet.stages["c2"][1]
    large = blocks[2].main[1].depthwise.weight
    small = blocks[0].main[1].depthwise.weight
    assert torch.equal(small, large[..., 2:5, 2:5])


def test_it_is_a_backbone_by_name() -> None:
    supernet = build_backbone("supernet", space=SPACE.to_json(), width=0.5)
    assert isinstance(supernet, ShuffleSupernet)
    assert supernet.feature_info[0].channels == 8 + 8  # at least 8 wider than the stem
    model = nn.Sequential(nn.Identity(), supernet)
    assert find_supernet(model) is supernet
    assert find_supernet(nn.Identity()) is None
    supernet.freeze(("stem",))
    assert not any(parameter.requires_grad for parameter in supernet.stem.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rows": [TABLE["rows"][0], {**TABLE["rows"][1], "name": "c2"}]},
            "^space: two rows have one name: c2, c2$",
        ),
        ({"stem_channels": 0}, "^space: stem_channels must be positive, got 0$"),
        ({"stem_channels": -16}, "^space: stem_channels must be positive, got -16$"),
        ({"stem_channels": "8"}, "^space: stem_channels must be a whole number, got '8'$"),
        ({"tail_channels": 0}, "^space: tail_channels must be positive, got 0$"),
    ],
)
def test_tables_that_cannot_be_built(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_space({**TABLE, **change})


def test_mistakes() -> None:
    with pytest.raises(InputError, match="supernet asks for space"):
        build_backbone("supernet")
    with pytest.raises(InputError, match="unknown option of searched 'pth'; did you mean 'path'"):
        build_backbone("searched", space="detnas_small", pth="0000")
    with pytest.raises(InputError, match="unknown backbone 'serched'; did you mean 'searched'"):
        build_backbone("serched")
    with pytest.raises(InputError, match="has 20 entries, got 4"):
        build_backbone("searched", space="detnas_small", path="0 0 0 0")
    for path in (2120, None, 0.5):  # as YAML reads 2120, nothing and .5
        with pytest.raises(InputError, match=f"as a text, .* between two stages, got {path}$"):
            build_backbone("searched", space="detnas_small", path=path)
    with pytest.raises(InputError, match="entry 3 of the path is 4"):
        SPACE.supernet().take((0, 0, 0, 4))
