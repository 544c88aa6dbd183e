"""Reads a split into what is trained on and what it is scored by, once for both. Opens no image."""

from typing import Any

from detnet.coco.annotations import Annotations, repair
from detnet.coco.categories import Categories
from detnet.coco.ground_truth import GroundTruths, make_ground_truths
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.table import AnnotationTable
from detnet.data.folders import Split, format_of, names_start, require_inside
from detnet.data.kept.splits import kept, kept_fingerprint
from detnet.errors import InputError


def read_content(
    split: Split, *, unlabelled: bool = False, strict: bool = False
) -> AnnotationTable:
    """Reads what a split's files say, neither checked nor repaired.

    Args:
        unlabelled: a file may lack the list "annotations", as that of COCO's test images does.
        strict: see `AnnotationTable`.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    content, file = format_of(split).read(split), str(split.annotations)
    return AnnotationTable(content, file, unlabelled=unlabelled, strict=strict)


def fingerprint_files(split: Split) -> str:
    """SHA-256 of the annotation files, by which a resumed run knows its data again."""
    return kept_fingerprint(split)


def read_sound(split: Split, *, unlabelled: bool = False) -> AnnotationTable:
    """Reads what a split's files say and refuses errors; nothing is repaired.

    Args:
        unlabelled: as `read_content`.

    Raises:
        InputError: it cannot be read, or holds errors.
    """
    table = read_content(split, unlabelled=unlabelled)
    path = split.annotations
    in_layout = path.parent.name == "annotations" or path.name == "_annotations.coco.json"
    whole = path.parent.parent if in_layout else path
    place = whole if split.format in ("coco", "roboflow") else split.root
    if errors := table.errors():
        more = f"+{len(errors) - 1} more: " if len(errors) > 1 else ""
        raise InputError(f"{errors[0]} ({more}run `detnet check {place}`)")
    return table


@kept()
def load_annotations(
    split: Split,
    *,
    masks: bool = False,
    keypoints: bool = False,
    keep_empty: bool = True,
    categories: Categories | None = None,
    layout: KeypointLayout | None = None,
    categories_of: str = "the model",
    unlabelled: bool = False,
    table: AnnotationTable | None = None,
) -> tuple[Annotations, list[str]]:
    """Reads a split, repairs what is safe and refuses what is not. Opens no image.

    What is read of a large file is kept, see `detnet.data.kept`: the arrays are then mapped, the
    same for all processes, and cannot be written to.

    Args:
        masks: keep the masks; an annotation without a usable one gets its box as mask.
        keypoints: keep the keypoints; an annotation without usable ones is a box only.
        keep_empty: keep images on which there is nothing (but crowds).
        categories: what the file's categories must be, a trained model's for instance.
        layout: what the file's keypoints must be, likewise; a file without annotations need not
            name them.
        categories_of: who has them, for the message.
        unlabelled: as `read_sound`.
        table: what `read_sound` gave for it already.

    Returns:
        the annotations, and one line for each kind of repair: "clipped 12 boxes to their image".

    Raises:
        InputError: the file cannot be read, holds errors, has other categories, or has no masks
            or keypoints where they are asked for.
    """
    if table is None:
        table = read_sound(split, unlabelled=unlabelled)
    if categories is not None:
        own = Categories.from_json(table.categories.rows)
        categories.require_same(own, mine=categories_of, theirs=table.file)
    if masks and len(table) and not any(table.segmentations):
        raise InputError(
            f"{table.file}: has no masks (no annotation has a segmentation); "
            "choose a detector that needs boxes only"
        )
    points = _read_layout(table, known=layout, known_of=categories_of) if keypoints else None
    names, _ = table.file_names
    start = names_start(split.images, names)
    require_inside(split, start, names)
    return repair(
        table, split.annotations, start, masks=masks, layout=points, keep_empty=keep_empty
    )


@kept(scored=True)
def load_scored(
    split: Split, *, unlabelled: bool = False, **options: Any
) -> tuple[Annotations, list[str], GroundTruths]:
    """Reads a split once for both: what a detector is given of it, and what it is scored by.

    Args:
        unlabelled, options: of `load_annotations`.

    Returns:
        what `load_annotations` gives, and the ground truth.

    Raises:
        InputError: as `load_annotations`.
    """
    table = read_sound(split, unlabelled=unlabelled)
    annotations, repairs = load_annotations(split, table=table, **options)
    return annotations, repairs, make_ground_truths(table, annotations, repairs)


def _read_layout(
    table: AnnotationTable, *, known: KeypointLayout | None = None, known_of: str = "the model"
) -> KeypointLayout:
    """Says which keypoints a file has, for a detector that needs them.

    Args:
        known: what they must be; a file without annotations need not name them.
        known_of: who has those, for the message.

    Raises:
        InputError: the file has none, or others.
    """
    own = KeypointLayout.from_json(table.categories.rows, file=table.file)
    if own is None and known is not None and not len(table):
        return known
    remedy = "choose a detector that needs boxes only"
    categories = sorted(table.categories.rows, key=lambda record: int(record["id"]))
    if own is None:
        names = ", ".join(repr(str(record["name"])) for record in categories[:3])
        more = f" and {len(categories) - 3} more" if len(categories) > 3 else ""
        raise InputError(
            f'{table.file}: has no keypoints (category {names}{more} names no "keypoints"); '
            f"{remedy}"
        )
    if len(table) and not any(table.keypoints):
        named = next(str(record["name"]) for record in categories if record.get("keypoints"))
        raise InputError(
            f"{table.file}: has no keypoints (category {named!r} names some, but no annotation "
            f"has any); {remedy}"
        )
    if known is not None:
        known.require_same(own, mine=known_of, theirs=table.file)
    return own
