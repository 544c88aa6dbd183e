"""Writes a detector's exported form as an ONNX file, which ONNX Runtime and OpenVINO both take."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from detnet.detectors.base import Detector
from detnet.detectors.export.form import export_form
from detnet.detectors.export.ops import NOTHING
from detnet.detectors.export.peaks import one_box
from detnet.detectors.export.stages import name_by_stage
from detnet.errors import InputError

OPSET = 18
_TRACED = (160, 224)  # pixels of the images that dynamic sizes are traced with


def write_onnx(
    model: Detector, path: str | Path, *, batch: int = 1, image_size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """Writes the detector as one ONNX file: images in, detections out, see `ExportForm`.

    The input is `images`. Weights lie in the file itself.

    Args:
        model: best with its norms folded, see `detnet.inference.fuse`.
        path: of the file.
        batch: how many images the graph takes.
        image_size: height and width of its images in pixels; None leaves them open.

    Returns:
        The names of its outputs, in their order.

    Raises:
        InputError: a size that is none, or what `export_form` refuses.
        ImportError: without the extra "export".
    """
    if batch < 1 or (image_size is not None and min(image_size) < 1):
        raise InputError(f"batch and image_size must be 1 or more, got {batch} and {image_size}")
    form = export_form(model)
    images = torch.zeros(batch, 3, *(image_size or _TRACED), dtype=torch.uint8)
    sizes = None
    if image_size is None:
        sizes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    with torch.no_grad(), _quiet():
        graph = torch.export.export(form, (images,), dynamic_shapes=sizes, strict=False)
        program = torch.onnx.export(
            graph,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(form.output_names),
            custom_translation_table=_translations(),
            verbose=False,
            optimize=False,  # two thirds of the time, for what runtimes do themselves
        )
    assert program is not None  # None is for a file
    _tidy(program.model)
    name_by_stage(program.model.graph)
    program.save(str(path), external_data=False)
    return form.output_names


def _tidy(graph: Any) -> None:
    """Works out what is constant, once, and leaves out what is there twice or for nothing."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.fold_constants(graph)
    for tidy in (
        common.CommonSubexpressionEliminationPass(),
        common.LiftConstantsToInitializersPass(),
        common.RemoveUnusedNodesPass(),
    ):
        tidy(graph)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own notes and the warnings of its parts to itself."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What each of our operators is in ONNX's."""
    from onnxscript import opset18

    op: Any = opset18

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def onnx_pad(images: Any, divisor: int) -> Any:
        sides = op.Shape(images, start=2)
        step = ints(divisor)
        padded = op.Mul(op.Div(op.Add(sides, ints(divisor - 1)), step), step)
        return op.Pad(images, op.Concat(ints(0, 0, 0, 0, 0, 0), op.Sub(padded, sides), axis=0))

    def onnx_suppress(boxes: Any, scores: Any, iou_threshold: float, limit: int) -> Any:
        left = op.NonMaxSuppression(
            boxes,
            scores,
            ints(limit),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[NOTHING / 2]),
        )
        nothing = op.Expand(op.Constant(value_floats=[NOTHING]), op.Shape(scores))
        return op.ScatterND(nothing, left, op.GatherND(scores, left))

    def onnx_pool(
        features: Sequence[Any],
        rois: Any,
        levels: Any,
        scales: Sequence[float],
        bins: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> tuple[Any, Any]:
        pooled, order = [], []
        for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
            own = op.Squeeze(op.NonZero(op.Equal(levels, ints(level))), ints(0))
            some = op.Gather(rois, own, axis=0)
            pooled.append(
                op.RoiAlign(
                    feature,
                    op.Slice(some, ints(1), ints(5), ints(1)),
                    op.Cast(op.Squeeze(op.Slice(some, ints(0), ints(1), ints(1)), ints(1)), to=7),
                    coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
                    output_height=bins,
                    output_width=bins,
                    sampling_ratio=sampling_ratio,
                    spatial_scale=scale,
                )
            )
            order.append(own)
        return op.Concat(*pooled, axis=0), op.Concat(*order, axis=0)

    def onnx_restore(rows: Any, order: Any, count: int) -> Any:
        shape = op.Concat(ints(count), op.Shape(rows, start=1), axis=0)
        zeros = op.Expand(op.CastLike(op.Constant(value_floats=[0.0]), rows), shape)
        return op.ScatterND(zeros, op.Unsqueeze(order, ints(1)), rows)

    def onnx_peaks(heatmaps: Any, boxes: Any) -> Any:
        wider = op.Pad(heatmaps, ints(0, 0, 2, 2, 0, 0, 2, 2), mode="edge")
        return op.Scan(wider, boxes, body=one_box(), num_scan_inputs=2)

    def onnx_floor_divide(numbers: Any, divisor: Any) -> Any:
        return op.Div(numbers, divisor)  # ours are not negative

    return {
        torch.ops.aten.floor_divide.default: onnx_floor_divide,
        torch.ops.detnet.pad_to_multiple.default: onnx_pad,
        torch.ops.detnet.suppress.default: onnx_suppress,
        torch.ops.detnet.pool_regions.default: onnx_pool,
        torch.ops.detnet.restore_rows.default: onnx_restore,
        torch.ops.detnet.heatmap_peaks.default: onnx_peaks,
    }
