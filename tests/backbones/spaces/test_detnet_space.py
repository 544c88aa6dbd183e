import copy
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.detnet import DETNET53_S8, DETNET59, DETNET59_NOPROJ, DETNET110
from detnet.backbones.resnet import RESNET50, RESNET50_DILATED
from detnet.backbones.spaces.detnet_space import DETNET, DetNetSpace, DetNetSupernet
from detnet.backbones.spaces.detnet_stage import StageChoices
from detnet.backbones.spaces.space import network_of_space, parse_path, read_space
from detnet.backbones.stages import Stage, StrideIn
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from tests.contracts import check_freezing

EXAMPLES = Path(__file__).parents[3] / "examples"
POINTS = {
    "detnet59": (DETNET59, "0 0 00 000000 000000"),
    "detnet59_noproj": (DETNET59_NOPROJ, "0 0 00 000000 000010"),
    "resnet50": (RESNET50, "0 0 00 011101 200000"),
    "resnet50_dilated": (RESNET50_DILATED, "0 0 00 010001 200000"),
}
TINY = DetNetSpace(
    rows=(
        StageChoices("c2", depths=(1, 2), channels=(32,)),
        StageChoices(
            "c3",
            depths=(0, 1),
            channels=(32, 64),
            strides=(1, 2),
            dilations=(1, 2),
            project=(False, True),
        ),
    )
)


@pytest.mark.parametrize("name", POINTS)
def test_the_published_networks_are_points_of_the_space(name: str) -> None:
    table, text = POINTS[name]
    assert DETNET.format_path(DETNET.path_of(table)) == text
    assert DETNET.table(parse_path(text)) == table
    published = BACKBONES[name](width=0.125).eval()
    ours = network_of_space(space="detnet", path=text, width=0.125).eval()
    assert [(n, v.shape) for n, v in ours.state_dict().items()] == [
        (n, v.shape) for n, v in published.state_dict().items()
    ]
    ours.load_state_dict(published.state_dict())
    assert ours.feature_info == published.feature_info
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found, expected = ours(images), published(images)
    assert list(found) == list(expected)
    assert all(torch.equal(found[level], expected[level]) for level in expected)


def test_the_network_found_is_a_point_of_the_space_it_was_found_in() -> None:
    """And what the campaign compares is that very network."""
    search = yaml.safe_load((EXAMPLES / "search/detnet_stride8.yaml").read_text())
    space = read_space(search["space"])
    path = parse_path("0 1 101 1011 0110")
    assert isinstance(space, DetNetSpace) and space.table(path) == DETNET53_S8
    campaign = yaml.safe_load((EXAMPLES / "campaigns/found_over_detnet59.yaml").read_text())
    found = campaign["variants"]["found"]["backbone_options"]
    assert parse_path(found["path"]) == path and read_space(found["space"]) == space


def test_genes_are_the_questions_with_several_answers() -> None:
    assert [(gene.stage, gene.name, gene.choices) for gene in TINY.genes] == [
        ("c2", "depth", ("1", "2")),
        ("c3", "depth", ("0", "1")),
        ("c3", "width", ("32", "64")),
        ("c3", "resolution", ("hold", "halve")),
        ("c3", "dilation", ("1", "2")),
        ("c3", "shortcut", ("identity", "projection")),
    ]


def _paths(space: DetNetSpace) -> list[tuple[int, ...]]:
    """Every sequence of indices, or 2,000 of them drawn at random."""
    counts = [len(gene.choices) for gene in space.genes]
    if math.prod(counts) < 2000:
        return list(itertools.product(*map(range, counts)))
    draws = np.random.default_rng(3).integers(counts, size=(2000, len(counts)))
    return [tuple(path) for path in draws.tolist()]


@pytest.mark.parametrize("space", [TINY, DETNET])
def test_equal_networks_have_one_path(space: DetNetSpace) -> None:
    written: dict[tuple[int, ...], tuple[Stage, ...]] = {}
    for path in _paths(space):
        canonical = space.check(path)
        written[canonical] = space.table(path)
        assert space.check(canonical) == canonical
    assert len(set(written.values())) == len(written)
    assert all(space.path_of(table) == path for path, table in written.items())


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("0 10000", "0 10000"),  # an identity that can be
        ("0 11000", "0 11001"),  # another width
        ("0 10100", "0 10101"),  # another resolution
        ("1 01111", "1 00000"),  # of an absent stage nothing counts
    ],
)
def test_what_has_no_meaning_is_spelled_in_one_way(path: str, canonical: str) -> None:
    assert TINY.format_path(TINY.check(parse_path(path))) == canonical


def test_a_quarter_inside_is_one_network_however_it_is_written() -> None:
    space = DetNetSpace(rows=(StageChoices("c2", (1,), (32, 64), inner=(0, 8, 16)),))
    assert len({space.check(path) for path in _paths(space)}) == 4
    assert space.table((0, 1)) == space.table((0, 0)) == (Stage("c2", 1, 32),)
    assert space.table((0, 2)) == (Stage("c2", 1, 32, inner=16),)
    block = space.network((0, 2)).stages["c2"][0]
    assert (block.conv2.in_channels, block.conv3.out_channels) == (16, 32)
    assert space.check((1, 0)) == (1, 2)


def test_an_absent_stage_is_no_level() -> None:
    assert [info.name for info in TINY.network(parse_path("0 00000")).feature_info] == ["c2"]
    assert TINY.table(parse_path("1 11110")) == (
        Stage("c2", 2, 32),
        Stage("c3", 1, 64, stride=2, dilation=2),
    )


@pytest.mark.parametrize("space", [TINY, DETNET])
def test_it_is_read_back(space: DetNetSpace) -> None:
    assert read_space(space.to_json()) == space


def test_what_a_row_leaves_out_has_its_usual_answer() -> None:
    rows = [{"name": "c2", "depths": [1], "channels": [32, 64]}]
    space = read_space({"kind": "detnet", "rows": rows})
    assert space == DetNetSpace(rows=(StageChoices("c2", (1,), (32, 64)),))


def test_a_network_that_is_not_in_the_space() -> None:
    with pytest.raises(InputError, match="c4: the depth is 23, this space has 6, 5, 4"):
        DETNET.path_of(DETNET110)
    with pytest.raises(InputError, match=r"the stages c2, c3, got \['c2'\]"):
        dataclasses.replace(
            TINY, rows=(TINY.rows[0], dataclasses.replace(TINY.rows[1], depths=(1,)))
        ).path_of([Stage("c2", 1, 32)])


def test_a_path_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="has 6 entries, got 2"):
        TINY.check((0, 1))
    with pytest.raises(InputError, match="choices of c3's dilation are 0 to 1"):
        TINY.network((0, 1, 0, 0, 2, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "p3"}, "rows are named c2, c3 …, got 'p3'"),
        ({"name": "c2"}, "two rows have one name: c2, c2"),
        ({"depths": ()}, "c3: a depth has 1 to 10 choices, got 0"),
        ({"depths": (-1, 1)}, "c3: at least 0 blocks"),
        ({"depths": (0,)}, "not always"),
        ({"depths": (1, 1)}, "c3: a depth is there twice"),
        ({"depths": (1, 2.5)}, "c3: a depth is int"),
        ({"channels": (30, 32)}, "multiples of 4"),
        ({"strides": (1, 3)}, r"1 \(hold\) or 2 \(halve\)"),
        ({"inner": (-1, 0)}, "c3: inner widths must not be negative"),
        ({"dilations": (0, 1)}, "dilations must be 1 or more"),
        ({"project": (1, 0)}, "c3: a shortcut is bool"),
        ({"project": (False,)}, "c3: its first block can change the shape"),
    ],
)
def test_rows_that_do_not_hold_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetNetSpace(rows=(TINY.rows[0], dataclasses.replace(TINY.rows[1], **change)))


def test_only_the_last_of_several_rows_may_be_absent() -> None:
    for rows in (
        (StageChoices("c2", (0, 1), (32,)), TINY.rows[1]),
        (StageChoices("c2", (0, 1), (32,)),),
    ):
        with pytest.raises(InputError, match="c2: at least 1 blocks"):
            DetNetSpace(rows=rows)
    with pytest.raises(InputError, match="at least one row"):
        DetNetSpace(rows=())


@pytest.mark.parametrize("row", [{"name": "c2"}, {"name": "c2", "depths": 3, "channels": [8]}])
def test_a_file_that_does_not_hold_together_names_itself(row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="^space: no detnet space: "):
        read_space({"kind": "detnet", "rows": [row]})


def test_a_key_that_no_row_has_is_told() -> None:
    row = {"name": "c2", "depths": [1], "chanels": 8}
    with pytest.raises(InputError, match="^space: unknown key of a row 'chanels'; did you mean"):
        read_space({"kind": "detnet", "rows": [row]})


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
