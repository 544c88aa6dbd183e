"""Small images and their annotations, for tests that break one thing of them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int, *, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    entry = struct.pack("<HHHIII", 1, 0x0112, 4, 1, orientation, 0)  # pillow's own is 16 bits wide
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entry
    Image.fromarray(pixels).save(path, exif=exif)


def annotations(names: list[str]) -> dict[str, Any]:
    """Ten boxes of one class on each image: nothing wrong with them."""
    return {
        "images": [
            {"id": i, "file_name": name, "width": 60, "height": 40}
            for i, name in enumerate(names, start=1)
        ],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i // 10 + 1,
                "category_id": 1,
                "bbox": [i % 10, 2, 20, 10],
                "area": 200,
                "iscrowd": 0,
            }
            for i in range(10 * len(names))
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
