"""Opens a weights file: reads it, tells its layout, and heeds what a model file of ours says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from detnet.backbones.weights.reading import read_tensors
from detnet.backbones.weights.source import Source, recognise

# Which of a source's options concern the image; the other is where blocks have their stride.
IMAGE_OPTIONS = ("pixel_mean", "pixel_std", "channel_order")


def open_weights(path: Path, *, place: str = "") -> Source:
    """Reads the weights of a file: of ours, or of any layout known.

    Args:
        path: the file.
        place: how messages name it; its path by default.

    Raises:
        InputError: the file cannot be read, or holds weights of no network that we know.
    """
    source = recognise(read_tensors(path), place or str(path))
    header = read_header(path)
    return _ours(source, header) if header else source


def read_header(path: Path) -> dict[str, Any]:
    """What a model file of ours says of itself; empty for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("detnet", "{}")
        header = json.loads(text)
    except (SafetensorError, OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _ours(source: Source, header: dict[str, Any]) -> Source:
    options = header.get("options", {})
    known = {**header, **options}  # a classifier's normalisation stands beside its options
    taken = {
        name: tuple(known[name]) if isinstance(known[name], list) else known[name]
        for name in ("stride_in", *IMAGE_OPTIONS)
        if name in known
    }
    kind = header.get("detector") or f"a {header.get('kind', 'network')}"
    title = f"{kind} on {header.get('backbone')} of width {options.get('width', 1.0)}"
    return replace(source, options=taken, title=title, header=header)
