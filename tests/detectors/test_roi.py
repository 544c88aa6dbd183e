import pytest
import torch
import torchvision
from torch import Tensor

from detnet.detectors.roi import LevelPooler

HEIGHT, WIDTH = 256, 320
DETNET = (4, 8, 16, 16, 16)


def _pyramid(strides: tuple[int, ...], images: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        f"p{i}": torch.randn(images, 4, HEIGHT // s, WIDTH // s, generator=generator)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for i, s in enumerate(strides, start=2)
    }


def _boxes(sizes: tuple[float, ...]) -> Tensor:
    return torch.tensor([[4.0, 2.0, 4.0 + 1.25 * s, 2.0 + 0.8 * s] for s in sizes])


def test_ordinary_strides_give_torchvisions_pooling() -> None:
    strides = (4, 8, 16, 32)
    ours, theirs = _pyramid(strides), _pyramid(strides)
    boxes = [_boxes((9, 60, 200, 130)), _boxes((240, 300, 110))]
    pooler = LevelPooler(list(ours), strides, output_size=5)
    reference = torchvision.ops.MultiScaleRoIAlign(list(theirs), 5, 2)
    shapes = [(HEIGHT, WIDTH)] * 2
    pooled, expected = pooler(ours, boxes, shapes), reference(theirs, boxes, shapes)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)
    pooled.square().sum().backward()
    expected.square().sum().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, atol=1e-4, rtol=1e-4)


def test_levels_are_counted_from_the_finest_and_the_size_that_p4_serves() -> None:
    boxes = [_boxes((100, 120, 240, 460, 2000))]
    pooler = LevelPooler(["p3", "p4", "p5"], (8, 16, 16), output_size=3, finest=3)
    assert pooler.map_levels(boxes).tolist() == [0, 0, 1, 2, 2]
    pooler = LevelPooler(
        ["p3", "p4", "p5"], (8, 16, 16), output_size=3, finest=3, canonical_size=112
    )
    assert pooler.map_levels(boxes).tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize(("num_levels", "expected"), [(4, [0, 1, 2, 3, 3]), (5, [0, 1, 2, 3, 4])])
def test_every_level_of_detnet_receives_its_rois(num_levels: int, expected: list[int]) -> None:
    strides = DETNET[:num_levels]
    pyramid = _pyramid(strides)
    pooler = LevelPooler(list(pyramid), strides, output_size=3)
    boxes = [_boxes((50, 120)), _boxes((300, 500, 1000))]
    assert pooler.map_levels(boxes).tolist() == expected

    pooled = pooler(pyramid, boxes, [(HEIGHT, WIDTH)] * 2)
    for roi, level in enumerate(expected):
        image, row = (0, roi) if roi < 2 else (1, roi - 2)
        rois = torch.cat([torch.tensor([float(image)]), boxes[image][row]])[None]
        feature = pyramid[f"p{level + 2}"]
        alone = torchvision.ops.roi_align(feature, rois, 3, 1 / strides[level], 2)
        torch.testing.assert_close(pooled[roi : roi + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampling_ratio", [2, -1])
def test_torchvisions_kernel_gets_the_same_levels(sampling_ratio: int) -> None:
    pyramid = {name: f.detach().fill_(i) for i, (name, f) in enumerate(_pyramid(DETNET).items())}
    pyramid["pool"] = torch.full((2, 4, 2, 2), float("nan"))  # a level nobody pools from
    boxes = [_boxes((50, 120)), _boxes((250, 240, 230))]
    pooler = LevelPooler(
        [f"p{i}" for i in range(2, 7)],
        DETNET,
        output_size=3,
        sampling_ratio=sampling_ratio,
        canonical_size=112,
    )
    pooled = pooler(dict(reversed(pyramid.items())), boxes, [(HEIGHT, WIDTH)] * 2)
    level = torch.tensor([0.0, 2, 3, 3, 3])
    assert pooled.shape == (5, 4, 3, 3)
    torch.testing.assert_close(pooled, level.view(5, 1, 1, 1).expand_as(pooled))


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (2, 0)])
def test_images_without_boxes_leave_zero_gradients(counts: tuple[int, int]) -> None:
    pyramid = _pyramid((4, 8, 16, 16))
    pooler = LevelPooler(list(pyramid), (4, 8, 16, 16), output_size=7)
    boxes = [_boxes((30, 60)[:count]).view(-1, 4) for count in counts]
    pooled = pooler(pyramid, boxes, [(HEIGHT, WIDTH)] * 2)
    assert pooled.shape == (sum(counts), 4, 7, 7)
    pooled.sum().backward()
    for features in pyramid.values():
        assert features.grad is not None
    for image, count in enumerate(counts):
        gradients = [features.grad[image] for features in pyramid.values()]
        assert any(gradient.any() for gradient in gradients) == (count > 0)


def test_names_and_strides_must_pair_up() -> None:
    with pytest.raises(ValueError, match="2 levels .* strides"):
        LevelPooler(["p2", "p3"], (4, 8, 16), output_size=7)
