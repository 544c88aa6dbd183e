"""Detectors on one picture, ours by every road against torch's eager road in fp32.

    python benchmarks/inference.py
    python benchmarks/inference.py --height 320 --square --networks r50 --roads torch openvino
    python benchmarks/inference.py --height 160 --repeats 1 --roads torch

800 x 1216 pixels, batch 1. Faster R-CNN R50-FPN against torchvision's own model of the same
weights, 1000 proposals a level and 1000 an image, batch norms frozen; Faster R-CNN DetNet-59-FPN,
which torchvision has not, against our own model as torch runs it when nothing is done. Roads:

    torch                 as `detnet predict` runs: norms folded, channels_last, in bf16 where the
                          processor has instructions for it, freed memory kept
    openvino, onnxruntime our export in fp32
    openvino-int8         likewise, with the layers in int8 that an export begins with, calibrated
                          on eight such pictures
    torchvision-openvino  OpenVINO's own conversion of torchvision's model
    compiled              the reference by torch.compile

Each road runs beside the reference, in turns, in a process of its own, and sees the same bytes. A
road that cannot be gone here is left out with the reason. Weights are drawn so that features stay
small, as trained ones' do. Agreement is the share of the reference's objects that the road finds
with an overlap of 0.99 or 0.75; score_gap is how far the scores of those lie apart at most. Of int8
it says little here, since drawn classes lie side by side; of a trained network its export tells.
"""

import argparse
import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import compare_apart, parse
from machine import Work, own_precision
from torch import Tensor, nn
from torchvision.ops import box_iou
from train_step import CLASSES, OURS, ours, reference

import detnet
from detnet.detectors.cost import detector_cost
from detnet.engine.machine import autocast_to
from detnet.engine.processor import keep_freed_memory
from detnet.inference.engines.openvino import keep_silent
from detnet.inference.fuse import fuse

Run = Callable[[], dict[str, Tensor]]
NETWORKS = ("r50", "detnet59")
ROADS = (
    *("torch", "openvino", "openvino-int8", "onnxruntime"),
    *("torchvision-openvino", "compiled"),
)
_NEEDS = {"openvino": "openvino", "onnxruntime": "onnxruntime", "openvino-int8": "nncf"}
_NEEDS["torchvision-openvino"] = "openvino"
_LARGEST = 1333


def picture(height: int, width: int = 0, *, seed: int = 0) -> Tensor:
    """Blobs of colour at several scales, half as wide again as high, of whole bytes."""
    size = height, width or width_of(height)
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.rand(1, 3, *(side // scale for side in size), generator=generator)
        for scale in (4, 16, 80)
    ]
    large = [nn.functional.interpolate(layer, size, mode="bilinear") for layer in layers]
    return (torch.stack(large).mean(dim=0)[0] * 255).round() / 255


def width_of(height: int) -> int:
    """1216 for 800: a multiple of what images are padded to."""
    return round(height * 1.52 / 32) * 32


def runner(model: nn.Module, image: Tensor, dtype: torch.dtype | None) -> Run:
    model.eval()

    def run() -> dict[str, Tensor]:
        with torch.inference_mode(), autocast_to(image.device, dtype):
            detections: list[dict[str, Tensor]] = model([image])
        return detections[0]

    return run


def agreement(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Any]:
    """Shares of their detections that ours cover, and how far the scores of the same lie apart."""
    if not len(ours["boxes"]) or not len(theirs["boxes"]):
        same = float(len(ours["boxes"]) == len(theirs["boxes"]))
        return {"agreement_99": same, "agreement_75": same, "score_gap": None}
    labels = ours["labels"][:, None] == theirs["labels"][None]
    overlap, partner = (box_iou(ours["boxes"], theirs["boxes"]) * labels).max(dim=0)
    gap = (ours["scores"][partner] - theirs["scores"]).abs()[overlap >= 0.99]
    return {
        "agreement_99": round((overlap >= 0.99).float().mean().item(), 3),
        "agreement_75": round((overlap >= 0.75).float().mean().item(), 3),
        "score_gap": round(gap.max().item(), 6) if len(gap) else None,
    }


def networks(name: str, height: int) -> tuple[nn.Module, nn.Module]:
    """Ours and the reference, of the same weights."""
    torch.manual_seed(0)
    sizes = {"min_size": height, "max_size": max(_LARGEST, height)}
    if name == "r50":
        theirs = reference(height).eval()
        _spread_scores(theirs)
        return ours(theirs, **sizes), theirs
    model = detnet.create("faster_rcnn_fpn", backbone=name, num_classes=CLASSES, **sizes)
    for key, value in model.state_dict().items():  # plain norms' weights are no buffers
        if key.endswith("bn3.weight"):
            value.fill_(0.2)  # as the reference's, see there
    _spread_scores(model)
    return model.eval(), model.eval()


@torch.no_grad()
def _spread_scores(model: Any) -> None:
    """Drawn weights are sure of nothing; this gives detections."""
    model.roi_heads.box_predictor.cls_score.weight.mul_(100)


def their_run(name: str, height: int, width: int) -> Run:
    return runner(networks(name, height)[1], picture(height, width), None)


def compiled_run(name: str, height: int, width: int) -> Run:
    model: Any = torch.compile(networks(name, height)[1])
    return runner(model, picture(height, width), None)


def our_run(name: str, height: int, width: int) -> Run:
    keep_freed_memory()
    dtype = own_precision()
    return runner(fuse(networks(name, height)[0], dtype=dtype), picture(height, width), dtype)


def onnxruntime_run(file: Path, threads: int, height: int, width: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {"images": _bytes(picture(height, width))}
    return lambda: _found(dict(zip(names, session.run(names, given), strict=True)))


def openvino_run(file: Path, threads: int, height: int, width: int) -> Run:
    request, names = openvino_request(str(file), threads)
    given = _bytes(picture(height, width))
    return lambda: _found(dict(zip(names, request.infer([given]).values(), strict=True)))


def converted_run(threads: int, height: int, width: int) -> Run:
    """torchvision's model as OpenVINO converts it, traced by it."""
    keep_silent()
    import openvino

    image = picture(height, width)[None]

    class Batched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = networks("r50", height)[1]

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            (found,) = self.model([images[0]])
            return found["boxes"], found["labels"], found["scores"]

    request, _ = openvino_request(
        openvino.convert_model(Batched().eval(), example_input=image), threads
    )
    given = image.numpy()

    def run() -> dict[str, Tensor]:
        boxes, labels, scores = map(torch.tensor, request.infer([given]).values())
        return {"boxes": boxes, "labels": labels, "scores": scores}

    return run


def openvino_request(model: Any, threads: int) -> tuple[Any, list[str]]:
    keep_silent()
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    names = [next(iter(output.get_names()), "") for output in compiled.outputs]
    return compiled.create_infer_request(), names


def _bytes(image: Tensor) -> np.ndarray:
    return (image * 255).round().to(torch.uint8)[None].numpy()


def _found(outputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    count = int(outputs["count"][0])
    return {name: torch.tensor(outputs[name][0, :count]) for name in ("boxes", "labels", "scores")}


def export(name: str, height: int, folder: Path, *, int8: bool) -> Path:
    """Our model as a file, ONNX in fp32 or OpenVINO's in int8."""
    from detnet.detectors.export.to_onnx import write_onnx
    from detnet.inference.export.quantising import find_layers, quantise

    file = folder / f"{name}.onnx"
    if not file.is_file():
        model: Any = networks(name, height)[0]
        write_onnx(fuse(model), file)
    if not int8:
        return file
    target = folder / f"{name}-int8.xml"
    samples = [_bytes(picture(192, 288, seed=seed)) for seed in range(1, 9)]
    quantise(file, target, samples, ignored=find_layers(file).ignored)
    return target


def missing(road: str, network: str) -> str:
    """Why a road cannot be gone here; nothing where it can."""
    need = _NEEDS.get(road)
    if need and importlib.util.find_spec(need) is None:
        return f"{need} is not installed"
    if road == "torchvision-openvino" and network != "r50":
        return "torchvision has no such model"
    if road == "compiled" and not any(map(shutil.which, ("g++", "clang++"))):
        return "torch.compile needs a C++ compiler"
    return ""


def facts(found: dict[str, Tensor], expected: dict[str, Tensor], **known: Any) -> dict[str, Any]:
    facts = known | {
        "detections": {"ours": len(found["boxes"]), "theirs": len(expected["boxes"])},
    }
    facts |= agreement(found, expected)
    print(facts)
    return facts


def macs(name: str, height: int, width: int) -> int:
    """Of the whole detector on the picture and 1000 proposals, without computing."""
    options = OURS if name == "r50" else {"backbone": name}
    found = detector_cost(
        "faster_rcnn_fpn", num_classes=CLASSES, image_size=(height, width), **options
    )
    return found.cost.macs


def road_of(
    road: str, name: str, folder: Path, threads: int, size: tuple[int, int]
) -> Callable[[], Run]:
    if road == "torch":
        return functools.partial(our_run, name, *size)
    if road == "compiled":
        return functools.partial(compiled_run, name, *size)
    if road == "torchvision-openvino":
        return functools.partial(converted_run, threads, *size)
    file = export(name, size[0], folder, int8=road.endswith("int8"))
    run = onnxruntime_run if road == "onnxruntime" else openvino_run
    return functools.partial(run, file, threads, *size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="%(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument("--height", type=int, default=800, help="%(default)s")
    parser.add_argument("--square", action="store_true", help="as wide as high")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--roads", nargs="+", choices=ROADS, default=ROADS)
    options = parse(parser)
    torch.set_num_threads(options.threads)
    size = options.height, options.height if options.square else width_of(options.height)
    for name in options.networks:
        cost = macs(name, *size)
        for road in options.roads:
            reason = missing(road, name)
            if reason:
                print(f"{name}, {road}: left out, {reason}")
                continue
            print(f"{name}, {road}:")
            with tempfile.TemporaryDirectory() as folder:
                compare_apart(
                    "inference",
                    road_of(road, name, Path(folder), options.threads, size),
                    functools.partial(their_run, name, *size),
                    threads=options.threads,
                    repeats=options.repeats,
                    work=Work(cost, own_precision() if road == "torch" else None),
                    facts=functools.partial(facts, network=name, road=road, size=[*size]),
                )


if __name__ == "__main__":
    main()
