"""Opens a weights file: reads it, tells its layout, and heeds what a model file of ours says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from detnet.backbones.weights.reading import read_weights
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
    found = read_weights(path)
    source = recognise(found.tensors, place or str(path))
    return _ours(source, found.header) if found.header else source


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
