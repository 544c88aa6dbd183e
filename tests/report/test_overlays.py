"""What is drawn over an image stands where it belongs, also where a box ends between pixels."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from detnet.coco.masks import encode_pixels
from detnet.report.overlays import make_mark, make_skeleton
from detnet.report.pictures import TINTS


def tinted(uri: str) -> np.ndarray:
    """The opaque pixels of a picture, and its colour where it is tinted."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize("as_text", [True, False], ids=["str", "bytes"])
@pytest.mark.parametrize(
    "box", [(10.4, 5.6, 12.2, 7.9), (-20.0, -8.0, 60.0, 48.0)], ids=["inside", "beyond the image"]
)
def test_a_mask_keeps_its_place(box: tuple[float, float, float, float], as_text: bool) -> None:
    pixels = np.zeros((30, 40), np.uint8)
    pixels[6:13, 11:22] = 1
    pixels[6, 11] = 0
    rle = encode_pixels(pixels)
    if not as_text:
        rle["counts"] = rle["counts"].encode()
    mark = make_mark("right", box, (40, 30), name="cat", score=0.9, mask=rle)
    assert (mark.x, mark.y) == pytest.approx((box[0] / 40, box[1] / 30))
    assert (mark.width, mark.height) == pytest.approx((box[2] / 40, box[3] / 30))
    mask = mark.mask
    assert mask is not None
    place = (mask.x * 40, mask.y * 30, mask.width * 40, mask.height * 30)
    assert place == pytest.approx((11, 6, 11, 7))
    drawn = tinted(mask.uri)
    assert np.array_equal(drawn[:, :, 3] > 0, pixels[6:13, 11:22] > 0)
    assert (drawn[drawn[:, :, 3] > 0][:, :3] == TINTS["right"]).all()


def test_colours_of_masks() -> None:
    rle = encode_pixels(np.ones((30, 40), np.uint8))
    for kind, tint, colour in (
        ("crowd", None, TINTS["ignored"]),
        ("false", None, TINTS["false"]),
        ("false", (1, 2, 3), (1, 2, 3)),
    ):
        mark = make_mark(kind, (0, 0, 40, 30), (40, 30), name="", score=-1.0, mask=rle, tint=tint)
        assert mark.mask is not None
        assert tuple(tinted(mark.mask.uri)[5, 5, :3]) == colour


def test_without_a_mask() -> None:
    empty = encode_pixels(np.zeros((30, 40), np.uint8))
    for mask in (None, empty):
        mark = make_mark("truth", (1, 2, 3, 4), (40, 30), name="cat", score=-1.0, mask=mask)
        assert mark.mask is None


def test_a_skeleton_joins_the_points_that_there_are() -> None:
    points = [[9.5, 14.5, 2], [19.5, 0, 1], [39.5, 29.5, 0]]
    skeleton = make_skeleton(points, [(0, 1), (1, 2), (2, 0)], (40, 30))
    assert skeleton is not None
    places = [(0.25, 0.5), (0.5, 0.5 / 30)]  # half a pixel on: indices become places
    assert skeleton.points == [pytest.approx(place) for place in places]
    assert [len(line) for line in skeleton.lines] == [2]
    assert skeleton.lines[0] == (pytest.approx(places[0]), pytest.approx(places[1]))
    assert make_skeleton([[1, 2, 0]], [], (40, 30)) is None
    assert make_skeleton(np.zeros((0, 3)), [], (40, 30)) is None
