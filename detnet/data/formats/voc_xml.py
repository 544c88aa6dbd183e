"""One XML file of Pascal VOC: read, and its size and objects taken out.

VOC counts pixels from 1 and its boxes end on their last pixel: a box from 1 to 60 covers all of an
image 60 pixels wide, and is 0 … 60 in COCO.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from detnet.coco.masks import MAX_SIDE
from detnet.data.formats.interchange import LabelledBox, finite
from detnet.errors import InputError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse_annotation(path: Path) -> ElementTree.Element:
    """Reads the file as far as its outermost element.

    Raises:
        InputError: it is not there, cut, or no annotation of VOC's kind.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not a whole XML file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if root.tag != "annotation":
        raise InputError(f"{path}: not a VOC annotation: starts with <{root.tag}>")
    return root


def annotated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height as annotated; None where tools write 0, nothing or nonsense."""
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    # Python reads no integer of more than 4,300 digits.
    if all(side.isdecimal() and len(side) < 10 and 0 < int(side) <= MAX_SIDE for side in sides):
        return int(sides[0]), int(sides[1])
    return None


def read_objects(
    root: ElementTree.Element,
    path: Path | None,
    *,
    keep_difficult: bool = False,
    zero_based: bool = False,
) -> list[LabelledBox]:
    """The objects of one image; their parts (heads, hands, feet) are none.

    Args:
        path: of the file, for messages.
        keep_difficult: makes difficult objects ordinary ones, not crowds.
        zero_based: coordinates count from 0 and end after the last pixel, as some tools write.

    Raises:
        InputError: an object lacks its name or a corner; the message names file and object.
    """
    boxes = []
    for number, node in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        name = (node.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no <name>")
        corners = []
        for key in _CORNERS:
            text = node.findtext(f"bndbox/{key}")
            if text is None:
                raise InputError(f"{where} ({name}): has no <{key}> in <bndbox>")
            corners.append(finite(text, f"{where} ({name})"))
        left, top, right, bottom = corners
        if not zero_based:
            left, top = left - 1, top - 1
        difficult = (node.findtext("difficult") or "0").strip() not in ("0", "")
        box = (left, top, right - left, bottom - top)
        boxes.append(LabelledBox(name, box, crowd=difficult and not keep_difficult))
    return boxes
