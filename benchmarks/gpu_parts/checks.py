"""The parts of `gpu.py`: each checks or times one thing on the device that it is given."""

import copy
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import torchvision
from gpu import ROOT, missing_packages
from gpu_parts.place import Found, LeftOut, Place, loop_steps, turns
from torch import nn

from detnet.detectors import DETECTORS, create, option_defaults
from detnet.engine.checkpoint import load, restore_rng_state, rng_state, save
from detnet.engine.loop import Batch, to_device
from detnet.engine.machine import (
    autocast_to,
    compile_network,
    configure_cuda,
    fast_bf16,
    precision_name,
)
from detnet.engine.optim import sgd
from detnet.errors import InputError

# How far losses may lie from the processor's, relative to their sum. A detector of two stages
# takes its losses at the regions that it proposes itself, which follow roundings.
BOUNDS = {"fp32": (1e-3, 0.03), "bf16": (0.05, 0.15), "fp16": (0.02, 0.1)}
_ONE_STAGE = ("fcos", "retinanet", "ssd", "yolo")
_ALL = 1_000_000  # samplers that take everything: each device draws other numbers


def part_machine(place: Place) -> Found:
    """What is here, and what is missing."""
    module = torch.get_device_module(place.device)
    missing = missing_packages()
    figures = {
        "device": module.get_device_name(0),
        "devices": module.device_count(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "bf16": fast_bf16(place.device),
        "missing": missing,
        "tiny": place.tiny,
    }
    lines = [
        f"{figures['devices']} × {figures['device']}, torch {figures['torch']}, torchvision "
        f"{figures['torchvision']}, CUDA {figures['cuda']}, Python {figures['python']}",
        f"missing packages: {', '.join(missing) or 'none'}",
    ]
    if not figures["bf16"]:
        lines.append("this GPU has no bf16: what asks for it is left out, fp16 stands in for it")
    return Found(True, lines, figures)


def part_tests(place: Place) -> Found:
    """The tests marked `gpu`, and those of steps and norms that no host waits for."""
    if importlib.util.find_spec("pytest") is None:
        raise LeftOut("pytest is not installed here")
    tests = ROOT / "tests"
    cases = [str(tests / "pretended/cases" / name) for name in ("engine.py", "norms.py")]
    marked = [str(f) for f in sorted(tests.rglob("test_*.py")) if "mark.gpu" in f.read_text()]
    # Without conftest.py, whose scenes need packages that may be missing.
    # Nor are warnings of whatever else is installed here failures of the GPU.
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-W", "default"]
    runs = {
        "marked gpu": [*command, "-m", "gpu", *marked],
        "steps ahead": [*command, "-m", "not slow", *cases],
    }
    environment = {**os.environ, "DETNET_TEST_DEVICE": place.device.type}
    lines, held = [], True
    for name, run in runs.items():
        done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
        held = held and done.returncode == 0
        told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        lines += [f"{name}: {(done.stdout.splitlines() or ['nothing'])[-1]}", *told]
    return Found(held, lines)


def part_steps(place: Place) -> Found:
    """Each detector's losses and gradients against the processor's in fp32."""
    configure_cuda(place.device, tf32=False, fixed_size=False)
    lines, figures, held = [], {}, True
    precisions = [None, *([torch.bfloat16] if fast_bf16(place.device) else []), torch.float16]
    for name in list(DETECTORS)[:: 5 if place.tiny else 1]:
        model = _small_detector(name)
        images, targets = _scene(model)
        expected = sum(_losses(model, images, targets).values())
        here = copy.deepcopy(model).to(place.device)
        given = to_device((images, targets), place.device)
        told = []
        for dtype in precisions:
            kind = precision_name(dtype)
            with autocast_to(place.device, dtype):
                found = sum(_losses(here, *given).values())
            away = abs(found - expected) / expected
            bound = BOUNDS[kind][name not in _ONE_STAGE]
            good = math.isfinite(found) and away <= bound
            held = held and good
            figures[f"{name} {kind}"] = away
            told.append(f"{kind} {away:.1e}{'' if good else f' (over {bound:g})'}")
        lines.append(f"{name}: relative difference {', '.join(told)}")
    return Found(held, lines, figures)


def _losses(model: nn.Module, images: Any, targets: Any) -> dict[str, float]:
    """Of a step forward and backward, whose gradients are finite in fp32."""
    torch.manual_seed(0)
    model.zero_grad()
    losses = model.train()(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    if not torch.is_autocast_enabled(next(model.parameters()).device.type):
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not torch.stack([gradient.isfinite().all() for gradient in gradients]).all():
            raise ArithmeticError("a gradient is not finite in fp32")
    return {name: loss.item() for name, loss in losses.items()}


def _small_detector(name: str) -> Any:
    torch.manual_seed(0)
    wishes = {"rpn_batch": _ALL, "roi_batch": _ALL, "post_nms_train": 50, "pre_nms_train": 200}
    known = option_defaults(name)
    options = {key: value for key, value in wishes.items() if key in known}
    return create(name, num_classes=4, width=0.125, min_size=96, max_size=160, **options)


def _scene(model: Any) -> Batch:
    """Two images of different sizes with two objects, and one; masks and points where asked for."""
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for size, count in (((96, 160), 2), ((128, 96), 1)):
        boxes = torch.tensor([[10.0, 20.0, 70.0, 80.0], [30.0, 5.0, 90.0, 60.0]])[:count]
        target = {"boxes": boxes, "labels": torch.tensor([1, 3])[:count]}
        if "masks" in model.targets:
            target["masks"] = torch.zeros(count, *size, dtype=torch.uint8)
            target["masks"][:, 25:55, 35:65] = 1
        if "keypoints" in model.targets:
            places = boxes[:, None, :2] + 40 * torch.rand(count, 17, 2, generator=generator)
            target["keypoints"] = torch.cat([places, torch.full((count, 17, 1), 2.0)], 2)
        images.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator))
        targets.append({**target, "image_id": len(images)})
    return images, targets


def part_resume(place: Place) -> Found:
    """Six steps equal three, a checkpoint and three, where torch can compute repeatably."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    whole, again = (_stretch(place, None, 6) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "last.ckpt"
        save(file, _stretch(place, None, 3))
        resumed = _stretch(place, load(file), 6)
    same = [_same(whole, other) for other in (again, resumed)]
    words = {True: "the same bits", False: "other bits"}
    lines = [f"RetinaNet trained twice: {words[same[0]]}; resumed: {words[same[1]]}"]
    # A device that does not repeat itself cannot be held to it.
    return Found(same[1] or not same[0], lines, {"repeated": same[0], "resumed": same[1]})


def _stretch(place: Place, state: dict[str, Any] | None, stop: int) -> dict[str, Any]:
    """The state after step `stop`, from a state or from the beginning."""
    model = _small_detector("retinanet").to(place.device)
    optimizer = sgd(model, lr=0.01, fused=True)
    start = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        restore_rng_state(state["rng"])
        start = state["iteration"]
    steps = loop_steps(model, repeat(_scene(model)), optimizer, place, start=start, stop=stop)
    for _ in steps:
        pass
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": rng_state(),
        "iteration": stop,
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    weights = other["model"]
    return all(torch.equal(value, weights[name]) for name, value in one["model"].items())


def part_compile(place: Place) -> Found:
    """RetinaNet's losses with its backbone and pyramid compiled."""
    from torch._inductor.codegen import common

    common.init_backend_registration()
    if common.get_scheduling_for_device(place.device.type) is None:
        raise LeftOut(f"torch writes no kernels for {place.device.type}")
    model = _small_detector("retinanet").to(place.device)
    given = to_device(_scene(model), place.device)
    expected = _losses(model, *given)
    try:
        compile_network(model.backbone)
        found = _losses(model, *given)
    except InputError as error:
        raise LeftOut(str(error)) from error
    away = max(abs(found[name] - value) / value for name, value in expected.items())
    plain = _small_detector("retinanet").to(place.device)
    took = [
        statistics.median(turns(partial(_losses, network, *given), place, 5))
        for network in (plain, model)
    ]
    lines = [
        f"losses within {away:.1e}; {1000 * took[0]:.1f} ms a step plain, {1000 * took[1]:.1f} "
        "compiled, on tiny images"
    ]
    return Found(away <= 1e-3, lines, {"away": away, "plain_s": took[0], "compiled_s": took[1]})
