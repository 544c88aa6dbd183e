"""Reads an export (`detnet export --format onnx`) with ONNX Runtime alone: no torch, no detnet.

    python examples/08_read_an_export_with_onnxruntime.py FOLDER IMAGE found.png

prints and draws what it finds, masks with their boxes. The export takes one image at once.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def main(folder: Path, image: Path, drawn: Path) -> None:
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    picture = ImageOps.exif_transpose(Image.open(image)).convert("RGB")
    size, sides = scaled_size(picture.size, about["images"])
    across = picture.resize((size[0], picture.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(across.resize(size, Image.Resampling.BILINEAR))
    fill = np.array(about["images"]["fill"], np.uint8)[None, :, None, None]
    batch = np.tile(fill, (1, 1, sides[1], sides[0]))
    batch[0, :, : size[1], : size[0]] = pixels.transpose(2, 0, 1)
    network = onnxruntime.InferenceSession(folder / about["network"])
    names = [output.name for output in network.get_outputs()]
    found = dict(zip(names, network.run(names, {"images": batch}), strict=True))
    ratios = np.array(picture.size) / size
    for row in range(int(found["count"][0])):
        x1, y1, x2, y2 = box = found["boxes"][0][row] * [*ratios, *ratios]
        name = about["categories"][found["labels"][0][row] - 1]["name"]
        print(f"{name} {found['scores'][0][row]:.2f}", *box.clip(0, picture.size * 2).round(1))
        ImageDraw.Draw(picture).rectangle((x1, y1, x2, y2), outline="red", width=2)
        if "masks" in found:
            stencil = Image.fromarray(np.uint8(255 * found["masks"][0][row]))
            place = stencil.resize((max(1, round(x2 - x1)), max(1, round(y2 - y1))))
            inside = place.point(lambda value: 120 * (value > 127))
            picture.paste((255, 60, 60), (round(x1), round(y1)), inside)
    picture.save(drawn)


def scaled_size(size: tuple[int, int], how: dict) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of the picture inside the network's input, and of that input."""
    whole = how["size"] and tuple(how["size"][::-1])
    if how["resize"] == "square":
        return (whole or (how["min_size"],) * 2,) * 2
    bounds = whole and (whole[0] / size[0], whole[1] / size[1])
    scale = min(bounds or (how["min_size"] / min(size), how["max_size"] / max(size)))
    inner = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
    return inner, whole or inner


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:])) if len(sys.argv) == 4 else print(__doc__)
