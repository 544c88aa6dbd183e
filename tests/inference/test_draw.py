"""Drawing: labels stay inside, colours keep to their class, masks are tinted and outlined."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from detnet.errors import InputError
from detnet.inference.draw import (
    PALETTE,
    _contrasting,
    _overlap,
    _place,
    _shorten,
    class_colour,
    draw,
    to_picture,
)


def grey(height: int = 120, width: int = 200) -> torch.Tensor:
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def test_every_form_of_image_gives_the_same_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [pixels, tensor, tensor / 255, Image.fromarray(pixels)]
    for form in forms:
        assert np.array_equal(np.asarray(to_picture(form)), pixels)


def test_pictures_are_turned_upright() -> None:
    picture = Image.new("RGB", (50, 30))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.info["exif"] = exif.tobytes()
    assert to_picture(picture).size == (30, 50)


def test_sixteen_bits_are_read_as_from_a_file() -> None:
    deep = (np.arange(1500, dtype=np.uint16) * 43).reshape(30, 50)
    shown = np.asarray(to_picture(Image.fromarray(deep)))
    assert np.abs(shown[:, :, 0].astype(int) - (deep >> 8)).max() <= 1


@pytest.mark.parametrize(
    "image",
    [torch.zeros(1, 30, 50), np.zeros((30, 50, 4), dtype=np.uint8), np.zeros((30, 50)), [1, 2]],
)
def test_other_shapes_and_types_are_refused(image: object) -> None:
    with pytest.raises(InputError, match="must be"):
        to_picture(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (255.0, "got 0 … 255; divide them by 255"),
        (-2.0, "got -2 … 0;"),
        (float("nan"), "got nan … nan;"),
        (float("inf"), "got 0 … inf;"),
    ],
)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_floats_that_are_no_brightness_are_refused(
    value: float, told: str, kind: torch.dtype
) -> None:
    image = torch.zeros(3, 4, 5, dtype=kind)
    image[1, 2, 3] = value
    with pytest.raises(InputError, match=f"floats lie in 0 … 1, {told}"):
        to_picture(image)
    image[1, 2, 3] = 1.2  # resampling may lift it a little
    assert to_picture(image).getpixel((3, 2)) == (0, 255, 0)


def test_first_box_and_all_others_have_their_class_colour() -> None:
    boxes = [[10, 40, 60, 100], [90, 40, 150, 100], [100, 60, 130, 90]]
    drawn = np.asarray(draw(grey(), boxes, labels=[1, 2, 1]))
    assert tuple(drawn[70, 10]) == class_colour(1) == tuple(drawn[70, 100])
    assert tuple(drawn[70, 90]) == class_colour(2)
    assert tuple(drawn[20, 190]) == (128, 128, 128)


def test_the_picture_given_is_left_alone() -> None:
    picture = Image.new("RGB", (90, 60), "white")
    draw(picture, [[5, 5, 50, 50]], labels=[1], names=["cell"])
    assert picture.getextrema() == ((255, 255),) * 3


def test_colours_are_stable_and_distinct() -> None:
    assert len({class_colour(label) for label in range(1, 81)}) == 80
    assert class_colour(1) == PALETTE[0]


def test_masks_are_tinted_within_and_outlined() -> None:
    mask = torch.zeros(1, 120, 200, dtype=torch.bool)
    mask[0, 30:90, 50:150] = True
    drawn = np.asarray(draw(grey(), [[40, 20, 170, 110]], labels=[2], masks=mask)).astype(int)
    assert tuple(drawn[30, 100]) == class_colour(2)
    inside, colour = drawn[60, 100], np.array(class_colour(2))
    assert (np.abs(inside - colour) < np.abs(128 - colour)).all()
    assert not np.array_equal(inside, colour)
    assert tuple(drawn[25, 100]) == (128, 128, 128)


def test_a_label_is_written_above_and_a_score_makes_it_longer() -> None:
    def ink(**options: object) -> np.ndarray:
        drawn = np.asarray(draw(grey(), [[20, 60, 100, 110]], labels=[1], **options))  # type: ignore[arg-type]
        return (drawn[:58] != 128).any(-1)

    assert not ink().any()
    named, scored = ink(names=["cell"]), ink(names=["cell"], scores=[0.87])
    assert named.any() and scored.sum() > named.sum()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 30),
        (150, 0, 199, 119),
        (190, 100, 199, 119),
        (0, 0, 199, 119),
        (-50, -50, 400, 400),
        (300, 300, 310, 310),
    ],
)
def test_labels_stay_inside_the_picture(box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = _place(box, (70, 15), (200, 120), [])
    assert 0 <= left < right < 200 and 0 <= top < bottom < 120
    draw(grey(), [box], labels=[1], names=["a name too long " * 4], scores=[0.5])


def test_long_labels_are_cut_where_they_begin_to_fit() -> None:
    font = ImageFont.load_default(11)
    asked = []

    class Asked:
        def getlength(self, text: str) -> float:
            asked.append(text)
            return font.getlength(text)

    for text in ("short", "a name too long " * 125, "W" * 30):
        for width in (10, 80, 200):
            asked.clear()
            cut = _shorten(text, Asked(), width)  # type: ignore[arg-type]
            assert len(asked) < 20
            assert cut == text or cut == text[: len(cut) - 1] + "…"
            assert cut == "…" or font.getlength(cut) + 6 <= width
            if cut != text:  # and with one more it is too long
                assert font.getlength(text[: len(cut)] + "…") + 6 > width


def test_where_labels_must_overlap_the_surest_is_on_top() -> None:
    """A picture as high as one label; its objects come in any order."""
    for scores in ([0.9, 0.3, 0.6], [0.3, 0.6, 0.9]):
        names = ["horse", "house", "hours"]
        drawn = draw(
            grey(16, 60), [[0, 0, 59, 15]] * 3, names=names, labels=[1, 2, 3], scores=scores
        )
        pixels = np.asarray(drawn).reshape(-1, 3)
        counts = [int((pixels == class_colour(label)).all(1).sum()) for label in (1, 2, 3)]
        assert np.argmax(counts) == np.argmax(scores), counts


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    first = _place((40, 40, 120, 90), (60, 15), (200, 120), [])
    second = _place((40, 40, 120, 90), (60, 15), (200, 120), [first])
    assert _overlap(first, second) == 0 and _overlap(first, first) == 60 * 15


def test_text_contrasts_with_its_ground() -> None:
    assert _contrasting((255, 255, 0)) == (0, 0, 0)
    assert _contrasting((60, 0, 90)) == (255, 255, 255)


def test_nothing_to_draw_leaves_the_picture_equal() -> None:
    drawn = draw(grey(), torch.zeros(0, 4), names=[], labels=torch.zeros(0, dtype=torch.int64))
    assert np.array_equal(np.asarray(drawn), np.asarray(to_picture(grey())))


def test_a_box_that_is_not_finite_does_not_stop_the_drawing() -> None:
    assert draw(grey(), [[float("nan"), 0, float("inf"), 50]], labels=[1], names=["x"]).size == (
        200,
        120,
    )


def test_skeletons_are_lines_between_the_points_that_are_there() -> None:
    grey = np.full((60, 90, 3), 128, dtype=np.uint8)
    points = np.array([[[20.0, 30, 1], [60, 30, 1], [60, 10, 0], [np.nan, 5, 1]]])
    edges = [[(0, 1), (1, 2), (0, 3)]]
    drawn = np.asarray(draw(grey, [[5, 5, 80, 55]], labels=[1], keypoints=points, skeletons=edges))
    inside = drawn[8:52, 8:78]  # within the box's own lines
    assert (inside[30 - 8, 40 - 8] == class_colour(1)).all()  # half way between the two
    assert (inside[20 - 8, 60 - 8] == 128).all()  # no line to what is not there
    assert (drawn[30, 20] == class_colour(1)).all() and (drawn[10, 60] == 128).all()
    without = np.asarray(draw(grey, [[5, 5, 80, 55]], labels=[1], keypoints=points))
    assert (without[30, 40] == 128).all() and (without[30, 20] == class_colour(1)).all()
