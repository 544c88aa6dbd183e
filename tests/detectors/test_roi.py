import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.ops._utils import convert_boxes_to_roi_format

from detnet.detectors.roi import LevelPooler, pool_levels, sparse_product_fits

HEIGHT, WIDTH = 256, 320
DETNET = (4, 8, 16, 16, 16)


def roi_align(
    features: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """The sparse product behind the arguments of `torchvision.ops.roi_align`."""
    rois = boxes if isinstance(boxes, Tensor) else convert_boxes_to_roi_format(boxes)
    if not sparse_product_fits(features, sampling_ratio):
        return torchvision.ops.roi_align(features, rois, output_size, spatial_scale, sampling_ratio)
    levels = torch.zeros(len(rois), dtype=torch.int64)
    return pool_levels([features], rois, levels, [spatial_scale], output_size, sampling_ratio)


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


def test_levels_are_counted_and_p4_serves_224_pixels() -> None:
    boxes = [_boxes((100, 120, 240, 460, 2000))]
    pooler = LevelPooler(["p2", "p3", "p4"], (8, 16, 16), output_size=3)
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
    )
    pooled = pooler(dict(reversed(pyramid.items())), boxes, [(HEIGHT, WIDTH)] * 2)
    level = torch.tensor([0.0, 1, 2, 2, 2])
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


pytestmark = pytest.mark.processor

LEVEL_HEIGHT, LEVEL_WIDTH, STRIDE = 14, 23, 4


def _features(dtype: torch.dtype = torch.float32, channels: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, channels, LEVEL_HEIGHT, LEVEL_WIDTH, generator=generator)
    return features.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def random_boxes(count: int = 40) -> list[Tensor]:
    """Small, large, on the border, outside, empty of area and turned round."""
    generator = torch.Generator().manual_seed(2)
    size = torch.tensor([LEVEL_WIDTH, LEVEL_HEIGHT, LEVEL_WIDTH, LEVEL_HEIGHT]) * STRIDE
    corners = torch.rand(count, 4, generator=generator) * 1.3 - 0.15
    low, high = corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])
    boxes = torch.cat([low, high], dim=1) * size
    whole, point = size.float() * torch.tensor([0, 0, 1, 1]), torch.full((4,), 7.0)
    outside = torch.tensor([-90.0, -80.0, -60.0, -50.0])
    return [boxes, boxes.new_zeros(0, 4), torch.stack([whole, point, outside])]


@pytest.mark.parametrize(("output_size", "ratio"), [(7, 2), ((3, 5), 1), (2, 3)])
def test_values_and_gradients_are_torchvisions(
    output_size: int | tuple[int, int], ratio: int
) -> None:
    ours, theirs = _features(), _features()
    arguments = (random_boxes(), output_size, 1 / STRIDE, ratio)
    pooled = roi_align(ours, *arguments)
    expected = torchvision.ops.roi_align(theirs, *arguments)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)

    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_is_the_derivative_of_itself() -> None:
    features = _features(torch.float64, channels=1)
    boxes = [b.double() for b in random_boxes(2)]
    assert torch.autograd.gradcheck(lambda f: roi_align(f, boxes, 2, 1 / STRIDE, 2), features)


def test_bf16_stays_bf16_and_near() -> None:
    features = _features(torch.bfloat16)
    pooled = roi_align(features, random_boxes(), 7, 1 / STRIDE, 2)
    expected = torchvision.ops.roi_align(features.float(), random_boxes(), 7, 1 / STRIDE, 2)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), expected, atol=0.03, rtol=0.01)
    pooled.sum().backward()
    assert features.grad is not None and features.grad.dtype == torch.bfloat16


def test_takes_rois_with_their_image_index_too() -> None:
    rois = torch.tensor([[2.0, 3, 5, 40, 30], [0.0, 10, 1, 80, 50]])
    pooled = roi_align(_features(), rois, 3, 1 / STRIDE, 2)
    expected = torchvision.ops.roi_align(_features(), rois, 3, 1 / STRIDE, 2)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"rois must be \(R, 5\), got \(2, 4\)"):
        roi_align(_features(), rois[:, 1:], 3, 1 / STRIDE, 2)


def test_no_boxes_give_a_zero_gradient_not_none() -> None:
    features = _features()
    pooled = roi_align(features, [torch.zeros(0, 4)] * 3, 7, 1 / STRIDE, 2)
    assert pooled.shape == (0, 8, 7, 7)
    pooled.sum().backward()
    assert features.grad is not None and not features.grad.any()


def test_a_box_that_is_nan_pools_zeros() -> None:
    rois = torch.tensor([[0.0, float("nan"), 2, float("nan"), 30]])
    assert not roi_align(_features(), rois, 3, 1 / STRIDE, 2).any()


def test_ratio_zero_adapts_to_the_box_as_torchvision_does() -> None:
    pooled = roi_align(_features(), random_boxes(), 3, 1 / STRIDE, 0)
    expected = torchvision.ops.roi_align(_features(), random_boxes(), 3, 1 / STRIDE, 0)
    torch.testing.assert_close(pooled, expected)


def test_levels_are_pooled_each_by_its_own_scale() -> None:
    fine = _features()
    coarse = torch.nn.functional.max_pool2d(fine, 2).detach().requires_grad_()
    rois = torch.tensor([[1.0, 3, 5, 40, 30], [0.0, 10, 1, 80, 50], [2.0, 0, 0, 30, 50]])
    levels = torch.tensor([1, 0, 1])
    pooled = pool_levels([fine, coarse], rois, levels, [1 / 4, 1 / 8], 3, 2)
    on_fine = torchvision.ops.roi_align(fine, rois[1:2], 3, 1 / 4, 2)
    on_coarse = torchvision.ops.roi_align(coarse, rois[[0, 2]], 3, 1 / 8, 2)
    torch.testing.assert_close(pooled[1:2], on_fine, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled[[0, 2]], on_coarse, atol=1e-4, rtol=1e-4)
    pooled.sum().backward()
    # Bins are means, so gradients add up to the number of bins each level pooled.
    assert fine.grad is not None and coarse.grad is not None
    assert fine.grad.sum().item() == pytest.approx(1 * 9 * 8, rel=1e-4)
    assert coarse.grad.sum().item() == pytest.approx(2 * 9 * 8, rel=1e-4)


@pytest.mark.gpu
def test_on_cuda_it_is_torchvisions_kernel() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    boxes = [b.cuda() for b in random_boxes()]
    pooled = roi_align(_features().cuda(), boxes, 7, 1 / STRIDE, 2)
    expected = torchvision.ops.roi_align(_features(), random_boxes(), 7, 1 / STRIDE, 2)
    torch.testing.assert_close(pooled.cpu(), expected, atol=1e-4, rtol=1e-4)
