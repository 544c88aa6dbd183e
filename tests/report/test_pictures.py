"""What is drawn over an image stands where it belongs, also where a box ends between pixels."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from detnet.coco.masks import encode_pixels
from detnet.report.pictures import TINTS, Skeleton, embed, embed_mask, make_mark, make_skeleton


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_large_pictures_are_scaled_down() -> None:
    uri, size = embed(Image.new("RGBA", (3000, 1200), "teal"))
    with opened(uri) as picture:
        assert picture.size == size == (1000, 400) and picture.format == "JPEG"
    assert embed(Image.new("L", (30, 20)))[1] == (30, 20)


def test_masks_are_tinted_inside_and_opaque_at_the_edge() -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:25, 10:35] = True
    with opened(embed_mask(mask, TINTS["right"])) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert pixels.shape == (30, 40, 4)
    assert not pixels[~mask][:, 3].any()
    assert (pixels[mask][:, :3] == TINTS["right"]).all()
    assert pixels[5, 20, 3] == 255 and 0 < pixels[15, 20, 3] < 255


def test_large_masks_are_scaled_down() -> None:
    with opened(embed_mask(np.ones((600, 1500), bool), TINTS["false"])) as picture:
        assert picture.size == (500, 200)


def test_skeletons_are_paths_in_thousandths() -> None:
    ends = (0.25, 0.5), (1.0, 0.0123)
    skeleton = Skeleton([*ends, (0, 1)], [ends])
    assert skeleton.bones == "M250.0 500.0L1000.0 12.3"
    assert skeleton.dots == "M250.0 500.0h0M1000.0 12.3h0M0.0 1000.0h0"


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
