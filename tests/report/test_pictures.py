import base64
import io

import numpy as np
from PIL import Image

from detnet.report.pictures import TINTS, Skeleton, embed, embed_mask


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
