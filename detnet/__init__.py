"""Backbones designed for object detection: build, train, measure, search and use them."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from detnet.backbones import BACKBONES
    from detnet.detectors import DETECTORS, create
    from detnet.evaluation.coco import score
    from detnet.inference.augmentation import PredictionOptions
    from detnet.inference.models import load

__all__ = ["BACKBONES", "DETECTORS", "PredictionOptions", "__version__", "create", "load", "score"]

_HOMES = {
    "BACKBONES": "detnet.backbones",
    "DETECTORS": "detnet.detectors",
    "PredictionOptions": "detnet.inference.augmentation",
    "create": "detnet.detectors",
    "load": "detnet.inference.models",
    "score": "detnet.evaluation.coco",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import detnet` and every `--help` cost no import of torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'detnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
