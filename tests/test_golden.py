"""Ten losses of a seeded toy run for each detector: a refactoring may not move them.

In fp64 and with small steps: otherwise rounding grows a hundredfold a step and turns decisions.
A change that should move them writes the files again: python -m tests.test_golden [DETECTOR…]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from detnet.data.batches import TrainBatches, stream
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from detnet.data.scenes import write_scenes
from detnet.data.transforms import Augmentation
from detnet.detectors import DETECTORS, create, option_defaults
from detnet.engine.loop import Batch, train_steps
from detnet.engine.optim import Schedule, sgd

pytestmark = pytest.mark.processor

GOLDEN = Path(__file__).parent / "golden"
STEPS = 10


def in_double(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Adds noise: on flat ground many anchors have one score, and rounding decides among them."""
    noise = torch.Generator().manual_seed(0)
    for images, targets in batches:
        yield (
            [
                image / 255 + 0.3 * torch.rand(image.shape, generator=noise, dtype=torch.float64)
                for image in images
            ],
            targets,
        )


def losses_of(detector: str, folder: Path) -> list[float]:
    """Trains DetNet-59 at an eighth of its width on eight scenes."""
    masks, keypoints = detector == "mask_rcnn_fpn", detector == "keypoint_rcnn_fpn"
    write_scenes(folder, train=8, val=1, size=(160, 120), keypoints=keypoints)
    torch.manual_seed(0)
    kinds = {"masks": masks, "keypoints": keypoints}
    annotations, _ = load_annotations(find_split(folder, "train"), **kinds)
    dataset = DetectionDataset(annotations, Augmentation(min_sizes=(96,)), seed=0, **kinds)
    batches = TrainBatches(annotations, batch_size=2)
    few = {"pre_nms_train": 200, "post_nms_train": 50, "roi_batch": 16, "rpn_batch": 32}
    known = option_defaults(detector)
    options = {name: value for name, value in few.items() if name in known}
    if annotations.keypoint_layout is not None and keypoints:
        options["num_keypoints"] = len(annotations.keypoint_layout)
    model = create(detector, num_classes=4, width=0.125, **options).double()
    steps = train_steps(
        model,
        in_double(stream(dataset, batches, start=0, stop=STEPS)),
        sgd(model, lr=0.001),
        Schedule(STEPS, kind="cosine", warmup_iterations=2),
        start=0,
        iterations=STEPS,
        device=torch.device("cpu"),
        clip_norm=10.0,
    )
    return [step.total for step in steps]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads round otherwise, and R-FCN's hardest regions are others then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("detector", DETECTORS)
def test_losses_stay_where_they_were(detector: str, tmp_path: Path) -> None:
    expected = [float(line) for line in (GOLDEN / f"{detector}.txt").read_text().split()]
    assert losses_of(detector, tmp_path) == pytest.approx(expected, rel=1e-5)


def write_golden_files() -> None:
    import tempfile

    for detector in sys.argv[1:] or DETECTORS:
        with tempfile.TemporaryDirectory() as folder:
            losses = losses_of(detector, Path(folder))
        (GOLDEN / f"{detector}.txt").write_text("".join(f"{loss:.8f}\n" for loss in losses))


if __name__ == "__main__":
    write_golden_files()
