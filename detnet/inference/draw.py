"""Draws boxes, names, scores, masks and skeletons onto a picture so that a person can read them."""

import colorsys
import sys
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from detnet.coco.masks import RunLengths, decode_masks
from detnet.data.images import to_rgb
from detnet.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

# Far apart for most eyes, and neither near black nor near white; more are made by the golden angle.
PALETTE: tuple[Colour, ...] = (
    (29, 121, 222),
    (255, 140, 20),
    (46, 160, 67),
    (230, 57, 70),
    (155, 80, 215),
    (245, 200, 30),
    (20, 190, 190),
    (240, 98, 175),
    (150, 105, 60),
    (165, 205, 40),
)
MASK_OPACITY = 0.38
_MARGIN = 0.25  # by which resampling may take floats out of 0 … 1


def class_colour(label: int) -> Colour:
    """The colour of a class, the same in every picture."""
    index = label - 1
    if 0 <= index < len(PALETTE):
        return PALETTE[index]
    # The golden ratio spreads any number of hues evenly.
    red, green, blue = colorsys.hsv_to_rgb(index * 0.6180339887 % 1.0, 0.75, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def to_picture(image: "Tensor | NDArray[np.uint8] | Image.Image") -> Image.Image:
    """Turns any form of image into an RGB picture of its own, upright by its EXIF orientation.

    Args:
        image: (3, H, W) tensor, uint8 or floats in [0, 1]; (H, W, 3) or (H, W) uint8 array, RGB; or
            a pillow image of any mode.

    Raises:
        InputError: another shape or type, or floats that are no brightness.
    """
    if isinstance(image, Image.Image):
        return Image.fromarray(to_rgb(image))
    torch = sys.modules.get("torch")  # who gives a tensor has imported it
    if torch is not None and isinstance(image, torch.Tensor):
        image = _of_tensor(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise InputError(f"an image must be a path, a picture, a tensor or uint8 array, got {kind}")
    if image.ndim != 2 and image.shape[2:] != (3,):
        raise InputError(f"an image array must be (H, W, 3) or (H, W), got {image.shape}")
    if not image.size:
        raise InputError(f"an image must have pixels, got {image.shape}")
    return Image.fromarray(image).convert("RGB")


def _of_tensor(image: "Tensor") -> NDArray[np.uint8]:
    require_image(image)
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round()
    return image.permute(1, 2, 0).cpu().numpy().astype(np.uint8)


def require_image(image: "Tensor") -> None:
    """Refuses a tensor that is no image.

    Raises:
        InputError: of another shape than (3, H, W), without pixels, neither uint8 nor floats, or
            floats beyond what resampling makes of 0 … 1.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise InputError(f"an image tensor must be (3, H, W), got {tuple(image.shape)}")
    if not image.numel():
        raise InputError(f"an image must have pixels, got {tuple(image.shape)}")
    if not image.is_floating_point() and str(image.dtype) != "torch.uint8":
        raise InputError(f"an image tensor must be uint8 or floats in [0, 1], got {image.dtype}")
    if image.is_floating_point():
        low, high = (float(each) for each in image.aminmax())
        if not -_MARGIN <= low <= high <= 1 + _MARGIN:  # NaN, too
            raise InputError(
                f"an image's floats lie in 0 … 1, got {low:g} … {high:g}; divide them by 255, and "
                "do not normalise them, which the model does itself"
            )


def draw(
    image: "Tensor | NDArray[np.uint8] | Image.Image",
    boxes: "ArrayLike | Tensor",
    *,
    labels: "Sequence[int] | NDArray[np.int64] | Tensor",
    names: Sequence[str] | None = None,
    scores: "ArrayLike | Tensor | None" = None,
    masks: "Sequence[RunLengths] | NDArray[Any] | Tensor | None" = None,
    keypoints: "ArrayLike | Tensor | None" = None,
    skeletons: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> Image.Image:
    """Draws objects onto a copy of the picture, the surest on top, each with its name and score.

    Line width and type size follow the picture's size; a label stays inside the picture and away
    from other labels where there is room.

    Args:
        image: as `to_picture` takes it.
        boxes: (N, 4), xyxy, pixels of `image`.
        labels: N class numbers, which choose the colours.
        names: N class names, to be written.
        scores: (N,) in [0, 1], shown as percent.
        masks: (N, H, W), above 0.5 is the object; or N masks as COCO has them.
        keypoints: (N, K, 3), x, y, and above 0 where there is one to be drawn.
        skeletons: of each object the pairs of its keypoints, from 0, that a line joins.
    """
    picture = to_picture(image)
    rectangles = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(rectangles)
    sureness = np.ones(count) if scores is None else np.asarray(scores, dtype=np.float64)
    order = np.argsort(sureness, kind="stable")
    colours = [class_colour(int(label)) for label in labels]

    line = max(1, round(min(picture.size) / 240 + 0.2))
    if masks is not None:
        picture = _blend_masks(picture, masks, colours, order, line)
    pen = ImageDraw.Draw(picture)
    for index in order:
        pen.rectangle(_inside(rectangles[index], picture.size), outline=colours[index], width=line)
    if keypoints is not None:
        points = np.asarray(keypoints, dtype=np.float64)
        for index in order:
            edges = skeletons[index] if skeletons is not None else ()
            _draw_skeleton(pen, points[index], edges, colours[index], line)

    texts = [
        _label(names[i] if names is not None else None, sureness[i] if scores is not None else None)
        for i in range(count)
    ]
    _write_labels(pen, picture.size, rectangles, texts, colours, order[::-1].tolist())
    return picture


def _draw_skeleton(
    pen: ImageDraw.ImageDraw,
    points: NDArray[np.float64],
    edges: Sequence[tuple[int, int]],
    colour: Colour,
    line: int,
) -> None:
    """Lines between keypoints, then the keypoints as dots with a rim that shows on any ground."""
    shown = (points[:, 2] > 0) & np.isfinite(points).all(axis=1)
    places = [(float(x), float(y)) for x, y in points[:, :2]]
    for start, end in edges:
        if shown[start] and shown[end]:
            pen.line([places[start], places[end]], fill=colour, width=line + 1)
    radius = line + 1.5
    for x, y in (places[index] for index in np.flatnonzero(shown)):
        dot = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(dot, fill=colour, outline=_contrasting(colour))


def _label(name: str | None, score: float | None) -> str:
    parts = [name, None if score is None else f"{score:.0%}"]
    return " ".join(part for part in parts if part)


def _type_size(size: tuple[int, int]) -> int:
    return max(11, round(min(size) / 36))


def _inside(box: NDArray[np.float64], size: tuple[int, int]) -> Rectangle:
    """The box with its edges on pixels of the picture, left before right."""
    width, height = size
    x1, y1, x2, y2 = np.nan_to_num(box).tolist()
    x1, x2 = min(max(x1, 0), width - 1), min(max(x2, 0), width - 1)
    y1, y2 = min(max(y1, 0), height - 1), min(max(y2, 0), height - 1)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _blend_masks(
    picture: Image.Image,
    masks: "Sequence[RunLengths] | NDArray[Any] | Tensor",
    colours: Sequence[Colour],
    order: NDArray[np.int64],
    line: int,
) -> Image.Image:
    """Tints each mask and draws its outline opaque, so that touching objects stay apart."""
    pixels = np.asarray(picture).astype(np.float32)
    for index in order:
        whole = _painted(masks[index])  # one at a time: a hundred are larger than all the rest
        rows, columns = np.nonzero(whole.any(1))[0], np.nonzero(whole.any(0))[0]
        if not len(rows):
            continue
        # Only the mask's own rectangle: a hundred small objects on a large picture stay quick.
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask, part = whole[window], pixels[window]
        colour = np.array(colours[index], dtype=np.float32)
        part[mask] += (colour - part[mask]) * MASK_OPACITY
        part[mask & ~_eroded(mask, line)] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def _painted(mask: Any) -> NDArray[np.bool_]:
    if isinstance(mask, dict):
        return decode_masks([mask["counts"].encode()], *mask["size"])[0].view(bool)
    return np.asarray(mask) > 0.5


def _eroded(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    for _ in range(times):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _write_labels(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    boxes: NDArray[np.float64],
    texts: Sequence[str],
    colours: Sequence[Colour],
    order: Sequence[int],
) -> None:
    """Writes the labels, the first of `order` having the first choice of place."""
    font = ImageFont.load_default(_type_size(size))
    taken: list[Rectangle] = []
    plans: list[tuple[Rectangle, str, Colour]] = []
    for index in order:
        if not texts[index]:
            continue
        text = _shorten(texts[index], font, size[0])
        place = _place(_inside(boxes[index], size), _text_size(text, font), size, taken)
        taken.append(place)
        plans.append((place, text, colours[index]))
    for place, text, colour in reversed(plans):
        pen.rectangle(place, fill=colour)
        centre = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        pen.text(centre, text, fill=_contrasting(colour), font=font, anchor="mm")


def _text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    # The height is the font's, not the text's: labels with and without descenders look alike.
    _, top, _, bottom = font.getbbox("Åg")
    return round(font.getlength(text)) + 6, round(bottom - top) + 4


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) + 6 <= width:
        return text
    ends = range(1, len(text))
    kept = bisect_left(ends, True, key=lambda end: font.getlength(text[:end] + "…") + 6 > width)
    return text[:kept] + "…"


def _place(
    box: Rectangle, label: tuple[int, int], size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """Where the label hides least: above the box, below it, or in a corner within it."""
    (x1, y1, x2, y2), (width, height) = box, label
    wishes = [
        (x1, y1 - height),
        (x1, y1),
        (x1, y2),
        (x2 - width, y1 - height),
        (x2 - width, y2),
        (x1, y2 - height),
        (x2 - width, y2 - height),
    ]
    best, least = (0.0, 0.0, 0.0, 0.0), float("inf")
    for rank, (left, top) in enumerate(wishes):
        left_in = min(max(left, 0), max(size[0] - width, 0))
        top_in = min(max(top, 0), max(size[1] - height, 0))
        place = (left_in, top_in, left_in + width - 1, top_in + height - 1)
        # A label pushed back into the picture no longer stands where its wish meant it to.
        pushed = abs(left_in - left) + abs(top_in - top)
        cost = sum(_overlap(place, other) for other in taken) + rank * 0.5 + pushed
        if cost < least:
            best, least = place, cost
    return best


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Common area of two rectangles in pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return width * height if width > 0 and height > 0 else 0.0


def _contrasting(colour: Colour) -> Colour:
    """Black or white, whichever reads better on the colour (by its relative luminance)."""
    linear = [(channel / 255) ** 2.2 for channel in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast by WCAG 2: (luminance + 0.05) / 0.05 on black, 1.05 / (luminance + 0.05) on white.
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)
