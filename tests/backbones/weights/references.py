"""Other projects' networks, written down from their descriptions, with their names for weights."""

import copy
import io
import pickle
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def with_statistics(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Gives every batch norm scale, bias and statistics that show when they are mixed up."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 2.0),
            ):
                assert values is not None
                values.data.uniform_(low, high, generator=generator)
    return model.eval()


def images() -> Tensor:
    """One image that is not square, and whose sides are no multiples of 32."""
    return torch.rand(1, 3, 100, 140, generator=torch.Generator().manual_seed(5))


class TheirBottleneck(nn.Module):
    """DetNet_pytorch's block: the stride sits in the 3×3, a projection is named by its stage."""

    def __init__(self, inputs: int, mid: int, stride: int, dilation: int, project: str) -> None:
        super().__init__()
        outputs = 4 * mid
        self.conv1, self.bn1 = nn.Conv2d(inputs, mid, 1, bias=False), nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = nn.Conv2d(mid, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.project = project
        if project:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            setattr(self, project, nn.Sequential(conv, nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        side = getattr(self, self.project)(x) if self.project else x
        return torch.relu(self.bn3(self.conv3(out)) + side)


class TheirDetNet(nn.Module):
    """DetNet-59 with the names of guoruoqian/DetNet_pytorch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (blocks, mid, stride) in enumerate(
            [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 256, 1), (3, 256, 1)], start=1
        ):
            dilation = 2 if number > 3 else 1
            rows = []
            for index in range(blocks):
                name = "" if index else ("extra_conv" if number > 3 else "downsample")
                rows.append(TheirBottleneck(inputs, mid, 1 if index else stride, dilation, name))
                inputs = 4 * mid
            setattr(self, f"layer{number}", nn.Sequential(*rows))
        self.fc = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return [x := getattr(self, f"layer{number}")(x) for number in range(1, 6)]


def detectron_blobs(*, depth: int = 50, seed: int = 3) -> dict[str, np.ndarray]:
    """Random weights of a Caffe-style ResNet under Detectron's names."""
    rng = np.random.default_rng(seed)
    blobs: dict[str, np.ndarray] = {}

    def add(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = np.sqrt(2 / (inputs * kernel * kernel))
        weight = rng.normal(0, scale, (outputs, inputs, kernel, kernel))
        blobs[f"{name}_w"] = weight.astype(np.float32)
        blobs[f"{norm}_s"] = rng.uniform(0.3, 0.9, outputs).astype(np.float32)
        blobs[f"{norm}_b"] = rng.uniform(-0.3, 0.3, outputs).astype(np.float32)

    add("conv1", "res_conv1_bn", 64, 3, 7)
    inputs = 64
    counts = (3, 4, 6, 3) if depth == 50 else (3, 4, 23, 3)
    for stage, blocks in enumerate(counts, start=2):
        mid = 64 * 2 ** (stage - 2)
        for block in range(blocks):
            place = f"res{stage}_{block}_branch"
            if block == 0:
                add(f"{place}1", f"{place}1_bn", 4 * mid, inputs, 1)
            shapes = {"2a": (mid, inputs, 1), "2b": (mid, mid, 3), "2c": (4 * mid, mid, 1)}
            for branch, shape in shapes.items():
                add(f"{place}{branch}", f"{place}{branch}_bn", *shape)
            inputs = 4 * mid
    blobs["fc1000_w"] = rng.normal(0, 0.01, (1000, 2048)).astype(np.float32)
    blobs["fc1000_b"] = np.zeros(1000, np.float32)
    return blobs


def detectron_features(blobs: dict[str, np.ndarray], x: Tensor) -> list[Tensor]:
    """What Detectron computes: convolutions with scale and bias, the stride in the 1×1."""

    def conv(name: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = torch.from_numpy(blobs[f"{name}_w"])
        scale, bias = (torch.from_numpy(blobs[f"{norm}_{end}"]) for end in "sb")
        out = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return out * scale[:, None, None] + bias[:, None, None]

    x = F.max_pool2d(torch.relu(conv("conv1", "res_conv1_bn", x, 2)), 3, 2, 1)
    found = []
    for stage in range(2, 6):
        block = 0
        while f"res{stage}_{block}_branch2a_w" in blobs:
            place, stride = f"res{stage}_{block}_branch", 2 if stage > 2 and block == 0 else 1
            out = torch.relu(conv(f"{place}2a", f"{place}2a_bn", x, stride))
            out = torch.relu(conv(f"{place}2b", f"{place}2b_bn", out))
            out = conv(f"{place}2c", f"{place}2c_bn", out)
            side = conv(f"{place}1", f"{place}1_bn", x, stride) if block == 0 else x
            x, block = torch.relu(out + side), block + 1
        found.append(x)
    return found


def python2_pickle(value: Any) -> bytes:
    """Pickles as Python 2 did: protocol 2, and both text and bytes as its one kind of string."""
    file = io.BytesIO()
    pickler = _Python2(file, protocol=2)
    pickler.dump(value)
    # numpy 2 has another name for the module than the numpy of that time.
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class _Python2(pickle._Pickler):  # type: ignore[misc,name-defined]
    dispatch = copy.copy(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


class TheirUnit(nn.Sequential):
    """DetNAS's spatial convolution, norm, 1×1, norm and perhaps ReLU, named after their place."""

    def __init__(
        self, place: str, inputs: int, outputs: int, kernel: int, stride: int, relu: bool
    ) -> None:
        super().__init__()
        if kernel:
            self.add_module(
                f"interstellar{place}_s",
                nn.Conv2d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs, bias=False),
            )
            self.add_module(f"interstellar{place}_s_bn", nn.BatchNorm2d(inputs))
        self.add_module(f"interstellar{place}", nn.Conv2d(inputs, outputs, 1, bias=False))
        self.add_module(f"bn{place}", nn.BatchNorm2d(outputs))
        if relu:
            self.add_module(f"relu{place}", nn.ReLU())


class TheirShuffleBlock(nn.Module):
    """A block of DetNAS's released networks: pairs of neighbouring channels are parted."""

    def __init__(self, place: str, inputs: int, outputs: int, stride: int, op: int) -> None:
        super().__init__()
        kernel = (3, 5, 7, 3)[op]
        name = place + ("_shufflenet_", "_shufflenet_", "_shufflenet_", "_xception_")[op]
        name += f"{kernel}x{kernel}_branch2"
        mid, self.parted = outputs // 2, stride == 1
        a, b = (inputs // 2, outputs // 2) if self.parted else (inputs, outputs - inputs)
        if op < 3:
            units = [
                TheirUnit(f"{name}a", a, mid, 0, 1, True),
                TheirUnit(f"{name}b", mid, b, kernel, stride, False),
            ]
        else:
            units = [
                TheirUnit(f"{name}a", a, mid, 3, stride, True),
                TheirUnit(f"{name}b", mid, mid, 3, 1, True),
                TheirUnit(f"{name}c", mid, b, 3, 1, False),
            ]
        self.conv = nn.Sequential(*units)
        if not self.parted:
            self.proj_conv = TheirUnit(f"{place}_proj", inputs, inputs, kernel, stride, True)

    def forward(self, x: Tensor) -> Tensor:
        if self.parted:
            n, c, h, w = x.shape
            pairs = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2)
            side, main = pairs.reshape(2, -1, c // 2, h, w)
        else:
            side, main = self.proj_conv(x), x
        return torch.cat([side, torch.relu(self.conv(main))], 1)


class TheirConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class TheirDetNAS(nn.Module):
    """A released DetNAS network of the small space, with the release's names."""

    def __init__(self, ops: list[int]) -> None:
        super().__init__()
        self.first_conv = TheirConv(3, 16, 3, 2)
        blocks, self.ends, inputs = [], [], 16
        for stage, (repeats, outputs) in enumerate(
            zip((4, 4, 8, 4), (64, 160, 320, 640), strict=True), start=1
        ):
            for index in range(repeats):
                place, op = f"{stage}{chr(ord('a') + index)}", ops[len(blocks)]
                blocks.append(TheirShuffleBlock(place, inputs, outputs, 1 if index else 2, op))
                inputs = outputs
            self.ends.append(len(blocks) - 1)
        self.features = nn.Sequential(*blocks)
        self.last_conv = TheirConv(inputs, 1024, 1, 1)
        self.fc = nn.Sequential()
        self.fc.add_module("fc", nn.Linear(1024, 10))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.first_conv(x), []
        for number, block in enumerate(self.features):
            x = block(x)
            if number in self.ends:
                found.append(x)
        return found
