import pytest
import torch

from detnet.data.transforms import resize
from detnet.detectors.images import ImageOptions, ImageTransform, SquareTransform, full_precision

PLAIN = {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}


def test_training_images_are_not_resized_and_padded_at_right_and_bottom() -> None:
    transform = ImageTransform(ImageOptions(min_size=800, **PLAIN)).train()
    images = [torch.ones(3, 40, 70), torch.ones(3, 50, 33)]
    batch, _ = transform(images)
    assert batch.tensors.shape == (2, 3, 64, 96)
    assert batch.image_sizes == [(40, 70), (50, 33)]
    assert batch.tensors[0].sum() == 3 * 40 * 70 and batch.tensors[0, 0, 39, 69] == 1
    assert batch.tensors.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("size", "fitted"), [((120, 240), (50, 100)), ((60, 70), (60, 70)), ((30, 60), (50, 100))]
)
def test_evaluation_resizes(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    transform = ImageTransform(ImageOptions(min_size=60, max_size=100, **PLAIN)).eval()
    batch, _ = transform([torch.rand(3, *size)])
    assert batch.image_sizes == [fitted]


@pytest.mark.parametrize("kind", [ImageTransform, SquareTransform])
def test_evaluation_sees_what_training_is_given(kind: type[ImageTransform]) -> None:
    """The pixels that the data pipeline's resizing gives: smoothed, then thinned out."""
    transform = kind(ImageOptions(min_size=32, max_size=64, **PLAIN)).eval()
    side = 128 if kind is SquareTransform else 200
    image = torch.zeros(3, 128, side, dtype=torch.uint8)
    image[:, ::4, ::4] = 255  # thinned out without smoothing all of it would be lost
    batch, _ = transform([image])
    given, _ = resize(image, {"boxes": torch.zeros(0, 4)}, min_size=32, max_size=64)
    height, width = given.shape[1:]
    assert batch.image_sizes == [(height, width)]
    found = (batch.tensors[0, :, :height, :width] * 255).round()
    torch.testing.assert_close(found, given.float(), rtol=0, atol=1)
    assert found.mean() == pytest.approx(255 / 16, abs=2)


def test_bytes_and_channel_order() -> None:
    options = ImageOptions(
        min_size=32, channel_order="bgr", pixel_mean=(0.0,) * 3, pixel_std=(1 / 255,) * 3
    )
    image = torch.zeros(3, 32, 40, dtype=torch.uint8)
    image[0], image[2] = 200, 50  # red, blue
    batch, _ = ImageTransform(options).eval()([image])
    torch.testing.assert_close(batch.tensors[0, :, 5, 7], torch.tensor([50.0, 0.0, 200.0]))


def test_full_precision_keeps_double() -> None:
    assert full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert full_precision(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("kind", [ImageTransform, SquareTransform])
@pytest.mark.parametrize(("images", "targets"), [(0, None), (0, 0), (2, 1), (1, 2)])
def test_each_image_has_its_target(
    kind: type[ImageTransform], images: int, targets: int | None
) -> None:
    """RetinaNet would learn from the images that have one, and others fail in another place."""
    given = None if targets is None else [{"boxes": torch.zeros(0, 4)}] * targets
    transform = kind(ImageOptions()).train()
    with pytest.raises(ValueError, match=f"got {images} images and {targets or 0} targets"):
        transform([torch.rand(3, 8, 12)] * images, given)


def test_bad_input_names_what_was_seen() -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\), got \(1, 8, 8\)"):
        ImageTransform(ImageOptions())([torch.rand(1, 8, 8)])


@pytest.mark.parametrize("kind", [ImageTransform, SquareTransform])
def test_labels_that_count_from_0_are_refused_in_training(kind: type[ImageTransform]) -> None:
    """RetinaNet would learn 0 as the last class, and Faster R-CNN as background."""
    images = [torch.rand(3, 8, 12)] * 2
    targets = [
        {"boxes": torch.tensor([[0.0, 0, 4, 4]] * len(labels)), "labels": torch.tensor(labels)}
        for labels in ([], [2, 0])
    ]
    with pytest.raises(ValueError, match="labels count from 1, got 0"):
        kind(ImageOptions()).train()(images, targets)
