"""What a network has learnt, in the other forms of its supernet."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.spaces.detnet_space import DETNET, DetNetSpace, DetNetSupernet
from detnet.backbones.spaces.detnet_stage import StageChoices, WideStage
from detnet.backbones.spaces.inheritance import RECTIFIED_MEAN
from detnet.backbones.stages import scale_channels

IMAGES = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
# The path of zeros has the fewest blocks and channels of all.
GROWING = DetNetSpace(
    rows=(
        StageChoices("c2", (2, 3), (32, 48)),
        StageChoices("c3", (1, 2, 3), (32, 64), strides=(2,), inner=(8, 16)),
    )
)
# The same questions, answered first by the widest; as many blocks.
SHRINKING = DetNetSpace(
    rows=(
        StageChoices("c2", (2,), (48, 32)),
        StageChoices("c3", (2,), (64, 32), strides=(2,), inner=(16, 8)),
    )
)


def paths(space: DetNetSpace) -> list[tuple[int, ...]]:
    counts = [range(len(gene.choices)) for gene in space.genes]
    return sorted({space.check(path) for path in itertools.product(*counts)})


def learnt(space: DetNetSpace, *, width: float = 1.0) -> DetNetSupernet:
    """On the path of zeros, by statistics and scales that tell one norm from another."""
    torch.manual_seed(0)
    supernet = space.supernet(width=width)
    for name, values in supernet.weights_of(supernet.path).items():
        if values.dim() == 1:
            values.uniform_(0.5, 1.5) if not name.endswith(("bias", "mean")) else values.normal_()
    return supernet


def levels(supernet: DetNetSupernet, path: tuple[int, ...]) -> dict[str, Tensor]:
    supernet.take(path)
    with torch.no_grad():
        found: dict[str, Tensor] = supernet(IMAGES)
    return found


@pytest.mark.parametrize("training", [False, True])
def test_wider_and_deeper_forms_compute_what_was_learnt(training: bool) -> None:
    supernet = learnt(GROWING).train(training)
    single, *others = paths(GROWING)
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0  # the statistics stay as they are
    expected = {name: level[:, :32] for name, level in levels(supernet, single).items()}
    supernet.spread()
    for path in [single, *others]:
        for name, level in levels(supernet, path).items():
            torch.testing.assert_close(level[:, :32], expected[name], rtol=1e-4, atol=1e-4)
    assert len(others) == 4 * 12 - 1


def test_further_blocks_change_nothing_at_all() -> None:
    supernet = learnt(GROWING).eval()
    expected = levels(supernet, (0, 0, 0, 0, 0))
    supernet.spread()
    deepest = levels(supernet, (1, 0, 2, 0, 0))
    assert all(torch.equal(level, expected[name]) for name, level in deepest.items())
    form = supernet.stages["c2"]["32x8"]
    for name, values in form.blocks[1].state_dict().items():
        silent = name in ("bn3.weight", "bn3.bias")
        assert torch.equal(values, 0 * values if silent else form.blocks[0].state_dict()[name])


def test_narrower_forms_are_the_network_restricted_to_their_channels() -> None:
    supernet = learnt(SHRINKING).eval()
    alone = SHRINKING.network(supernet.path).eval()
    alone.load_state_dict(supernet.weights_of(supernet.path))
    supernet.spread()

    def keep(layer: nn.Module, count: int) -> Any:
        """Sets all channels but the first to zero."""
        mask = (torch.arange(64) < count).float()[:, None, None]
        return layer.register_forward_hook(lambda *given: given[2] * mask[: given[2].shape[1]])

    for path in paths(SHRINKING):
        hooks = []
        for stage in SHRINKING.table(path):
            for block in alone.stages[stage.name]:
                inner = scale_channels(stage.inner or stage.channels // 4, 1.0)
                hooks += [keep(block.bn1, inner), keep(block.bn2, inner)]
                hooks.append(keep(block, stage.channels))
        with torch.no_grad():
            expected = alone(IMAGES)
        for name, level in levels(supernet, path).items():
            torch.testing.assert_close(level, expected[name], rtol=1e-4, atol=1e-4)
        for hook in hooks:
            hook.remove()


def parameters(form: WideStage) -> Iterator[tuple[str, str, Tensor]]:
    """Every parameter of a form: the block it lies in, its name there, its values."""
    for name, values in form.named_parameters():
        part, number, name = name.split(".", 2)
        yield f"{part}.{number}", name, values.detach()


@pytest.mark.parametrize("space", [GROWING, SHRINKING, DETNET])
def test_every_parameter_has_its_origin(space: DetNetSpace) -> None:
    """Those of further channels alone are as they were drawn."""
    supernet = learnt(space, width=0.125 if space is DETNET else 1.0)
    table = space.table(supernet.path)
    own = {id(values) for values in supernet.parameters()}
    taken = {value.data_ptr() for value in supernet.weights_of(supernet.path).values()}
    drawn = 7.0
    for values in supernet.parameters():
        if values.data_ptr() not in taken:
            values.data.fill_(drawn)
    before = {name: values.clone() for name, values in supernet.state_dict().items()}
    supernet.spread()
    assert {id(values) for values in supernet.parameters()} == own
    came_before = 64
    for stage in table:
        widths = f"{stage.channels}x{stage.inner or stage.channels // 4}"
        learnt_blocks = stage.blocks - 1
        source = f"stages.{stage.name}.{widths}"
        for form in supernet.stages[stage.name].values():
            for place, name, values in parameters(form):
                kind, number = place.split(".")
                further = kind == "blocks" and int(number) >= learnt_blocks
                if further and name.startswith("bn3"):
                    assert not values.any()
                    continue
                if kind == "opening":
                    place = f"opening.{came_before}"
                elif further:
                    place = f"blocks.{learnt_blocks - 1}"
                given = before.get(f"{source}.{place}.{name}")
                if given is None:
                    assert further and not learnt_blocks, "a block to copy, but no origin"
                    continue
                theirs = tuple(slice(0, size) for size in given.shape)
                ours = tuple(slice(0, size) for size in values.shape)
                assert torch.equal(values[theirs], given[ours])
                rest = values.clone()
                rest[theirs] = 0
                assert not rest[: len(given)].any(), "heard already"
                assert (rest[len(given) :] == drawn).all()
        came_before = stage.channels


def test_all_of_a_larger_form_learns_from_its_first_step_on() -> None:
    supernet = learnt(GROWING).train()
    supernet.spread()
    supernet.take((1, 1, 2, 1, 1))
    features = supernet(IMAGES)
    sum((level * torch.rand_like(level)).sum() for level in features.values()).backward()
    c3 = supernet.stages["c3"]["64x16"]
    heard = [c3.opening["48"].conv1.weight, c3.opening["48"].conv3.weight]
    for weight in [*heard, c3.blocks[0].bn3.weight, c3.blocks[1].bn3.weight]:
        assert weight.grad is not None and weight.grad.flatten(1 if weight.dim() > 1 else 0).any()
        assert weight.grad[..., -1].any()  # from the further channels, too


def test_a_projection_that_was_none_passes_its_input_on() -> None:
    row = StageChoices("c3", (1,), (32,), strides=(1, 2), project=(False, True))
    space = DetNetSpace(rows=(StageChoices("c2", (1,), (32, 16)), row))
    supernet = learnt(space).eval()
    assert [stage.project for stage in space.table(supernet.path)] == [True, False]
    supernet.spread()
    x = torch.rand(2, 32, 5, 7)
    for before in (32, 16):
        projection = supernet.stages["c3"]["32x8"].opening[str(before)].downsample
        projection.skipped = False
        given = x[:, :before]
        found = projection(given)[:, :before]
        torch.testing.assert_close(found, given + RECTIFIED_MEAN, rtol=1e-3, atol=1e-3)
    assert projection[0].weight[16:].std() > 0.01, "channels that were not there are as drawn"
