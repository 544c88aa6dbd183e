"""The settings of a classification run, the pre-training of a backbone; nothing here imports torch.

The defaults are the ResNeXt recipe, by which DetNet's paper pre-trains.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from detnet.errors import InputError
from detnet.kinds import require_not_negative
from detnet.training.run_config import RunConfig

SMALLEST_IMAGE = 32  # pixels: the coarsest stride of the backbones


def _short_side(size: Any) -> Any:
    """The whole image's short side in evaluation, for what the network sees of it."""
    return round(size / 0.875) if isinstance(size, int) else None


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Everything a classification run depends on; the defaults are the ResNeXt recipe.

    Args:
        data: folder with train/CLASS/image.jpg and val/CLASS/image.jpg.
        norm: batch norm over each process's images, or sync over those of all.
        image_size: side of the square that the network sees, pixels.
        test_short_side: the whole image's short side in evaluation, of which the middle is cut
            out; image_size / 0.875 by default, 256 for 224.
        pixel_mean: taken off each channel, in channel_order, of values in 0 to 1; by default the
            weights' own, ImageNet's from scratch.
        pixel_std: what each channel is divided by, likewise.
        channel_order: of the network's input, rgb or bgr; auto is the weights', rgb from scratch.
        min_area: smallest share of an image that training sees.
        lighting: strength of shifts along the colours' principal components.
        label_smoothing: share of the target that is spread over all classes.
        mixup: of the beta distribution by which images are mixed in pairs; 0 for none.
        best_metric: score of which the best model is kept, top1 or top5.

    Raises:
        InputError: a setting is out of its range.
    """

    preset_folder: ClassVar[str] = "pretrain"
    followers = RunConfig.followers | {"test_short_side": ("image_size", _short_side)}
    norm: Literal["batch", "sync"] = "batch"
    image_size: int = 224
    test_short_side: int | None = None
    pixel_mean: list[float] = field(default_factory=list)
    pixel_std: list[float] = field(default_factory=list)
    channel_order: Literal["auto", "rgb", "bgr"] = "auto"
    min_area: float = 0.08
    lighting: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    color_jitter: float = 0.4
    batch_size: int = 256
    lr: float = 0.1
    lr_batch: int = 256
    steps: list[float] = field(default_factory=lambda: [0.3, 0.6, 0.9])
    warmup: Literal["constant", "linear", "none"] = "none"
    best_metric: str = "top1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < SMALLEST_IMAGE:
            raise InputError(f"image_size must be at least {SMALLEST_IMAGE}, got {self.image_size}")
        if self.test_short_side is not None and self.test_short_side < self.image_size:
            raise InputError(
                f"test_short_side must be at least image_size {self.image_size}, got "
                f"{self.test_short_side}"
            )
        if len(self.pixel_mean) not in (0, 3):
            raise InputError(f"pixel_mean takes three numbers, got {self.pixel_mean}")
        if len(self.pixel_std) not in (0, 3) or not all(value > 0 for value in self.pixel_std):
            raise InputError(f"pixel_std takes three positive numbers, got {self.pixel_std}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if not 0 < self.min_area <= 1:
            raise InputError(f"min_area must lie in (0, 1], got {self.min_area}")
        require_not_negative(self, "lighting", "mixup")

    def default_length(self) -> dict[str, float]:
        return {"epochs": 100}

    @property
    def short_side(self) -> int:
        """The whole image's short side in evaluation."""
        return self.test_short_side or _short_side(self.image_size)
