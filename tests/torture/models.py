"""Mutated model and weights files: headers, metadata, tensors, pickles that would run code."""

import io
import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import torch

from tests.search.small_search import write_classes, write_data
from tests.torture.command import Found, call, finite_json, judge
from tests.torture.mutate_bytes import Random, mutate_bytes
from tests.torture.mutate_json import change, mutate_json
from tests.torture.networks import write_classifier, write_detector
from tests.torture.record import ACCEPTED, FINDINGS, WRONG


def base(folder: Path) -> None:
    write_detector(folder / "detector.safetensors")
    write_classifier(folder / "classifier.safetensors")
    write_data(folder / "scenes", train=1, val=1)
    write_classes(folder / "classes", train=2)
    state = {f"layer{i}.weight": torch.rand(3, 2) for i in range(4)}
    torch.save({"state_dict": {"conv1.weight": torch.rand(8, 3, 7, 7), **state}}, folder / "a.pth")
    arrays = {"blobs": {"conv1_w": torch.rand(8, 3, 7, 7).numpy(), "lr": 0.1}}
    (folder / "b.pkl").write_bytes(pickle.dumps(arrays))


def attack(random: Random, base: Path, scratch: Path) -> Found:
    """Gives a mutated file to a command that takes one."""
    sound = base / str(
        random.choice(
            ("detector.safetensors",) * 5 + ("classifier.safetensors",) * 2 + ("a.pth", "b.pkl")
        )
    )
    marker, path = scratch / "code-was-run", scratch / f"model{sound.suffix}"
    path.write_bytes(_mutated(random, sound, marker))
    try:
        said = call(*_command(random, sound, path, base, scratch))
        found = judge(said)
        if marker.exists():
            return Found(WRONG, f"{said.argv[0]}: code in a file was run")
        if found.verdict == ACCEPTED and "--json" in said.argv:
            found = finite_json(said) or found
        left = [p.name for p in scratch.iterdir() if p.name.endswith((".part", ".partial"))]
        if left and found.verdict not in FINDINGS:
            return Found(WRONG, f"{said.argv[0]} left {left}")
        return found
    finally:
        for left_over in scratch.iterdir():
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()


def _command(
    random: Random, sound: Path, path: Path, base: Path, scratch: Path
) -> tuple[str | Path, ...]:
    image = base / "scenes" / "val" / "val_00000.jpg"
    export = ("weights", path, "--export", "detnet", scratch / "out.safetensors")
    commands: list[tuple[str | Path, ...]] = [
        ("weights", path, "--json"),
        ("weights", path, "--for", "resnet50", "--width", "0.125"),
        export,
    ]
    if sound.stem == "detector":
        predict = ("predict", path, image, "--output", scratch / "out", "--json")
        evaluate = ("evaluate", path, "--data", base / "scenes", "--output", scratch / "scores")
        commands += [predict, predict, predict, (*evaluate, "--workers", "0", "--json")]
    if sound.stem == "classifier":
        evaluate = ("evaluate", path, "--data", base / "classes", "--output", scratch / "scores")
        commands += [(*evaluate, "--workers", "0", "--json")] * 2
    return commands[int(random.integers(len(commands)))]


def _mutated(random: Random, sound: Path, marker: Path) -> bytes:
    data = sound.read_bytes()
    if random.random() < 0.25:
        return mutate_bytes(random, data)
    if sound.suffix == ".safetensors":
        return _header(random, data)
    if random.random() < 0.2:
        return _hostile(random, sound.suffix, marker)
    if sound.suffix == ".pkl":
        return pickle.dumps(change(random, pickle.loads(data)))
    file = io.BytesIO()
    torch.save(change(random, torch.load(io.BytesIO(data), weights_only=True)), file)
    return file.getvalue()


def _header(random: Random, data: bytes) -> bytes:
    """Changes the outer header, what our metadata say, or the length of it all."""
    (length,) = struct.unpack("<Q", data[:8])
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    way = random.random()
    if way < 0.55:  # our own
        own = json.loads(header["__metadata__"]["detnet"])
        text = mutate_json(random, own).decode("utf-8", "replace")
        header["__metadata__"]["detnet"] = text
        text_of_all = json.dumps(header).encode()
    elif way < 0.9:
        text_of_all = mutate_json(random, header)
    else:
        odd = (0, 1, 8, length - 1, length + 1, 10**8 + 1, 2**63, 2**64 - 1, len(data))
        return struct.pack("<Q", odd[int(random.integers(len(odd)))]) + data[8:]
    text_of_all += b" " * (-len(text_of_all) % 8)
    return struct.pack("<Q", len(text_of_all)) + text_of_all + tensors


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


def _hostile(random: Random, suffix: str, marker: Path) -> bytes:
    """A file that makes a folder when what stands in it is run."""
    content = {"blobs": {"conv1_w": _Payload(marker)}}
    if suffix == ".pkl":
        return pickle.dumps(content, protocol=int(random.integers(0, 5)))
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
