"""Runs a trained detector in torch: give it images, get objects back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detnet.coco.keypoints import KeypointLayout, unnamed_layout
from detnet.detectors.base import Detector, info_of
from detnet.detectors.files import load_model
from detnet.engine.machine import accelerator, configure_cuda
from detnet.errors import InputError
from detnet.inference.augmentation import Detections, PredictionOptions, detect
from detnet.inference.draw import require_image, to_picture
from detnet.inference.fuse import fuse
from detnet.inference.prediction import ImageLike, Prediction, pixels_of
from detnet.text import first_line


class Predictor:
    """A detector ready for use.

    Args:
        model: in torchvision's manner, with `info` (categories) as `detnet.create` gives it.
        score_threshold: objects below it are not reported.
        device: where it runs; None is the model's own.
        dtype: `torch.bfloat16` computes in it where autocast allows; None is the model's own.
        options: soft suppression, and several views of each image; none by default. The attribute
            of that name may be set later.

    `model` stays as it was given; what runs is a copy with its batch norms folded into the
    convolutions, which is faster and differs by rounding only.

    Raises:
        InputError: the threshold is not within 0 … 1, or there is no such device.
    """

    def __init__(
        self,
        model: Detector,
        *,
        score_threshold: float = 0.5,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        options: PredictionOptions | None = None,
    ) -> None:
        if not 0 <= score_threshold <= 1:
            raise InputError(f"the score threshold must be in 0 … 1, got {score_threshold}")
        self.score_threshold = score_threshold
        self.options = options or PredictionOptions()
        own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.device = own if device is None else usable_device(device)
        self._dtype = dtype
        # On CPUs bfloat16 pays only together with channels-last weights.
        self.model = model.to(memory_format=torch.channels_last).to(self.device).eval()
        self._network = fuse(self.model, dtype=dtype)
        known = info_of(model).named_categories
        self.category_ids = tuple(int(category["id"]) for category in known)
        self.class_names = tuple(str(category["name"]) for category in known)
        self.layout = KeypointLayout.from_json(known, file="the model")

    def __repr__(self) -> str:
        info = info_of(self.model)
        return (
            f"Predictor({info.detector!r}, backbone={info.backbone!r}, "
            f"classes={len(self.class_names)}, device={str(self.device)!r}, "
            f"score_threshold={self.score_threshold:g})"
        )

    @property
    def network(self) -> Detector:
        """The copy that runs."""
        return self._network

    @property
    def dtype(self) -> torch.dtype | None:
        """What it computes in; given when it is made, since its weights are cast once."""
        return self._dtype

    def predict(self, image: ImageLike, *, options: PredictionOptions | None = None) -> Prediction:
        """Finds the objects in one image.

        Args:
            image: a path, a pillow image, a uint8 array (H, W, 3) in RGB, or a tensor (3, H, W),
                uint8 or floats in [0, 1]. Files and pillow images are turned upright by their EXIF.
            options: for this call instead of the predictor's own.

        Raises:
            InputError: no image, one of another shape, or floats beyond what resampling makes of
                0 … 1.
        """
        return self.predict_batch([image], options=options)[0]

    @torch.inference_mode()
    def predict_batch(
        self, images: Sequence[ImageLike], *, options: PredictionOptions | None = None
    ) -> list[Prediction]:
        """Finds the objects in several images at once, which may differ in size.

        Raises:
            InputError: as `predict`.
        """
        if not images:
            return []
        # The detector itself leaves out what is not sure enough, before it looks for each object's
        # mask.
        self._network.post_processor.score_thresh = self.score_threshold
        tensors = [_tensor(image) for image in images]
        inputs = [tensor.to(self.device) for tensor in tensors]
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            outputs = detect(self._network, inputs, options or self.options)
        return [
            self._prediction(output, (tensor.shape[2], tensor.shape[1]))
            for output, tensor in zip(outputs, tensors, strict=True)
        ]

    def _prediction(self, output: Detections, size: tuple[int, int]) -> Prediction:
        scores, order = output["scores"].float().sort(descending=True, stable=True)
        order = order[scores >= self.score_threshold]
        labels = output["labels"][order].cpu()
        masks, keypoints = output.get("masks"), output.get("keypoints")
        if masks is not None:
            masks = [masks[row] for row in order.tolist()]
        more: dict[str, Any] = {}
        if keypoints is not None:
            # A model that was not trained on named keypoints shows them as points without lines.
            layout = self.layout or unnamed_layout(len(self.class_names), keypoints.shape[1])
            more = {
                "keypoints": keypoints[order].float().cpu(),
                "keypoint_scores": output["keypoints_scores"][order].float().cpu(),
                "layout": layout,
            }
        return Prediction(
            boxes=output["boxes"][order].float().cpu(),
            labels=labels,
            scores=output["scores"][order].float().cpu(),
            names=tuple(self.class_names[label - 1] for label in labels.tolist()),
            category_ids=tuple(self.category_ids[label - 1] for label in labels.tolist()),
            size=size,
            run_lengths=masks,
            **more,
        )


def load_predictor(
    file: Path,
    *,
    score_threshold: float = 0.5,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    options: PredictionOptions | None = None,
) -> Predictor:
    """Loads a detector from its model file; `detnet.load` takes run folders and exports, too.

    Args:
        file: ends in `.safetensors`.
        score_threshold: see `Predictor`, as the rest.

    Raises:
        InputError: no model there, or a file that is cut or a pickle.
    """
    model = load_model(file)
    KeypointLayout.from_json(info_of(model).categories, file=str(file))  # names it where it fails
    return Predictor(
        model, score_threshold=score_threshold, device=device, dtype=dtype, options=options
    )


def usable_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; None takes a GPU where there is one.

    Raises:
        InputError: there is none, or it is not in this machine.
    """
    try:
        device = torch.device(name or accelerator() or "cpu")
        torch.empty(0, device=device)  # a device of the right name may still be absent
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise InputError(f"device {str(name)!r} cannot be used: {reason}") from error
    configure_cuda(device)
    return device


def _tensor(image: ImageLike) -> Tensor:
    """The image as (3, H, W), uint8 or floats, upright."""
    pixels = pixels_of(image)
    if isinstance(pixels, Tensor):
        require_image(pixels)
        return pixels.float() if pixels.is_floating_point() else pixels
    return torch.from_numpy(np.array(to_picture(pixels))).permute(2, 0, 1)
