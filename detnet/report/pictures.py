"""Pictures for pages: embedded once, with everything that is drawn over them kept apart.

Places are fractions of the picture, so that lines and type keep their width at any size.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from detnet.coco.keypoints import to_pixels
from detnet.coco.masks import decode_masks

PICTURE_SIDE = 1000  # pixels; longer ones are scaled down, the page stays light
_MASK_SIDE = 500  # masks are tints, half the sharpness does
_OPACITY = 115  # of 255

LOWEST = 0.05  # score from which on a detection is kept for a page
MOST = 100  # detections of one image
MOST_SHAPES = 30  # of them, the surest, have masks or keypoints; poor detectors' are ragged

Colour = tuple[int, int, int]
Place = tuple[float, float]
# The same colours as the style sheet's, told apart by most colour-blind eyes.
TINTS: dict[str, Colour] = {
    "truth": (255, 255, 255),
    "right": (86, 180, 233),
    "false": (245, 130, 32),
    "ignored": (170, 170, 170),
}


@dataclass(frozen=True)
class MaskPicture:
    """A mask as a transparent picture; its place as fractions of what it is drawn over.

    Args:
        uri: the picture.
        x, y, width, height: it begins and ends between pixels, unlike boxes.
    """

    uri: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Skeleton:
    """Keypoints and the lines between them, in fractions of what they are drawn over.

    Args:
        points: x and y of those that there are.
        lines: pairs of such places.
    """

    points: Sequence[Place]
    lines: Sequence[tuple[Place, Place]]

    @property
    def dots(self) -> str:
        """The points as an SVG path in thousandths: lines without length, which have round ends."""
        return "".join(f"M{_thousandths(point)}h0" for point in self.points)

    @property
    def bones(self) -> str:
        """The lines as an SVG path in thousandths."""
        return "".join(f"M{_thousandths(a)}L{_thousandths(b)}" for a, b in self.lines)


def _thousandths(place: Place) -> str:
    return f"{1000 * place[0]:.1f} {1000 * place[1]:.1f}"


@dataclass(frozen=True)
class Mark:
    """One box drawn over a picture.

    Args:
        kind: of ground truth "truth" or "crowd"; of detections "right", "false" or "ignored".
        x, y, width, height: fractions of the picture.
        name: class.
        score: a detection's own; of ground truth that of the detection that found it, -1 if none.
        mask: None where there are no masks, or nothing is in it.
        skeleton: None where there are no keypoints.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    name: str
    score: float
    mask: MaskPicture | None = None
    skeleton: Skeleton | None = None


@dataclass(frozen=True)
class GalleryPicture:
    """One image of the gallery.

    Args:
        name: of the file.
        uri: the image itself.
        size: width and height in pixels, as embedded.
        kinds: the selections it belongs to, of "best", "worst", "missed", "false".
        truths: what is there.
        found: what was found, the surest last, so that it is drawn on top.
        note: further words on it.
    """

    name: str
    uri: str
    size: tuple[int, int]
    kinds: tuple[str, ...]
    truths: Sequence[Mark]
    found: Sequence[Mark]
    note: str = ""

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """How many objects were found and missed, and how many detections are false."""
        objects = [mark for mark in self.truths if mark.kind == "truth"]
        hit = sum(mark.score >= threshold for mark in objects)
        false = sum(mark.kind == "false" and mark.score >= threshold for mark in self.found)
        return hit, len(objects) - hit, false


@dataclass(frozen=True)
class LabelError:
    """A place where the annotation, rather than the detector, may be wrong.

    Args:
        title: what is suspected.
        file: name of the image's file.
        uri: the place, cut out of the image.
        size: width and height of the cut in pixels.
        marks: fractions of the cut.
    """

    title: str
    file: str
    uri: str
    size: tuple[int, int]
    marks: Sequence[Mark]


def embed(picture: Image.Image, *, side: int = PICTURE_SIDE) -> tuple[str, tuple[int, int]]:
    """The picture as a URI, scaled down and compressed, and the size it then has."""
    picture = picture.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return _uri(buffer.getvalue(), "jpeg"), picture.size


def embed_mask(mask: NDArray[np.bool_], colour: Colour) -> str:
    """A mask as the URI of a picture, tinted inside, opaque at its edge and clear outside."""
    image = Image.fromarray(mask)
    if max(image.size) > _MASK_SIDE:
        scale = _MASK_SIDE / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    inside = np.asarray(image)
    padded = np.pad(inside, 1)
    core = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    indices = inside.astype(np.uint8) + (inside & ~core)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([0, 0, 0, *colour, *colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=bytes([0, _OPACITY, 255]), optimize=True, bits=2)
    return _uri(buffer.getvalue(), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def make_mark(
    kind: str,
    box: Sequence[float],
    sides: Sequence[int],
    *,
    name: str,
    score: float,
    mask: Mapping[str, Any] | None = None,
    skeleton: Skeleton | None = None,
    tint: Colour | None = None,
) -> Mark:
    """Makes the mark of one object or detection.

    Args:
        kind: as in `Mark`.
        box: xywh, pixels of the image.
        sides: the image's width and height.
        score: -1 for an object that nothing found.
        mask: COCO's compressed run lengths, {"size": [height, width], "counts"}.
        tint: of the mask; by default the kind's.
    """
    x, y, width, height = map(float, box)
    across, down = sides
    return Mark(
        kind=kind,
        x=x / across,
        y=y / down,
        width=width / across,
        height=height / down,
        name=name,
        score=score,
        mask=_tinted(mask, tint or TINTS.get(kind, TINTS["ignored"])) if mask else None,
        skeleton=skeleton,
    )


def make_skeleton(
    points: ArrayLike, edges: Iterable[tuple[int, int]], sides: Sequence[int]
) -> Skeleton | None:
    """Makes the skeleton of one object or detection; None where no point is labelled.

    Args:
        points: (K, 3), x and y as COCO has them and visibility.
        edges: pairs of the K.
        sides: the image's width and height.
    """
    values = np.asarray(points, float).reshape(-1, 3)
    there = values[:, 2] > 0
    places = [(float(x), float(y)) for x, y in to_pixels(values)[:, :2] / np.array(sides)]
    if not there.any():
        return None
    return Skeleton(
        points=[places[at] for at in np.flatnonzero(there).tolist()],
        lines=[(places[a], places[b]) for a, b in edges if there[a] and there[b]],
    )


def _tinted(mask: Mapping[str, Any], tint: Colour) -> MaskPicture | None:
    """The mask, no more of it than has pixels; None where it has none."""
    counts, (height, width) = mask["counts"], mask["size"]
    text = counts if isinstance(counts, bytes) else counts.encode("ascii")
    pixels = decode_masks([text], height, width)[0] > 0
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return MaskPicture(
        uri=embed_mask(pixels[top:bottom, left:right], tint),
        x=left / width,
        y=top / height,
        width=(right - left) / width,
        height=(bottom - top) / height,
    )
