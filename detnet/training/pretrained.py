"""The weights a run begins from, opened by name and loaded into its network."""

from torch import nn

from detnet.backbones.files import ClassifierInfo
from detnet.backbones.weights.loading import LoadReport, load_into_classifier
from detnet.backbones.weights.pretrained import PretrainedWeights
from detnet.detectors.base import Detector
from detnet.detectors.weights import load_into_detector, open_weights
from detnet.training.hub import find_weights
from detnet.training.settings import SHA256


def open_named(text: str) -> PretrainedWeights:
    """Opens what a WEIGHTS argument stands for.

    Raises:
        InputError: see `find_weights` and `open_weights`.
    """
    return open_weights(find_weights(text), place=text.partition(SHA256)[0])


def load_detector_weights(model: Detector, source: PretrainedWeights) -> list[str]:
    """Loads what fits into a detector; class layers stay fresh where categories differ.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    return report(source, load_into_detector(model, source))


def load_classifier_weights(
    model: nn.Module, info: ClassifierInfo, source: PretrainedWeights
) -> list[str]:
    """Loads what fits into a classifier; its last layer stays fresh for other classes.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    same = tuple(source.header.get("classes", ())) == info.classes
    done = load_into_classifier(model, source, same_classes=same, name=info.backbone)
    return report(source, done)


def report(source: PretrainedWeights, done: LoadReport) -> list[str]:
    """Says in a few lines what an import filled."""
    head = f"weights: {len(done.loaded)} tensors from {source.place} ({source.title})"
    if not (done.fresh or done.left_over or done.mismatched):
        return [f"{head}: all there are"]
    return [head, *(f"  {line}" for line in done.lines())]
