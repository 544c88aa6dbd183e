"""The ground truth that results were made on, known by its content, never by the name of a file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from detnet.data.annotations import Annotations, to_coco_dict
from detnet.data.coco import load_annotations
from detnet.data.contents import read_content
from detnet.data.folders import Split, find_split, leads_out, names_start
from detnet.errors import InputError
from detnet.evaluation.normalise import Truth, fingerprint, read_truth
from detnet.evaluation.records import read_json
from detnet.recipes.comparison.entries import Entry, Evaluated
from detnet.recipes.splits import find_val


@dataclass(frozen=True)
class GroundTruth:
    """What was to be found.

    Args:
        path: the annotation file.
        content: what the evaluation takes: the path, or what was made of it by repairs.
        truth: the same as columns.
        images: where the file names of the images start; None where there are no images.
        file_names: by image id.
    """

    path: Path
    content: Path | dict[str, Any]
    truth: Truth
    images: Path | None
    file_names: dict[int, str] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.truth)


def find_ground(
    entries: Sequence[Entry],
    annotations: Path | None,
    images: Path | None,
    split: str,
    iou_type: str,
) -> tuple[GroundTruth, list[Evaluated]]:
    """The ground truth, and of each entry the results that were made on it.

    Args:
        annotations: the ground truth; by default that of the first run.
        images: the folder of its images, if that is not beside it.
        split: of the runs' data, without `annotations`.

    Raises:
        InputError: it is not found, or a run was evaluated on another one.
    """
    runs = [entry for entry in entries if entry.is_run]
    if annotations is None and not any(run.config for run in runs):
        raise InputError(
            f"{entries[0].place}: results do not tell what was to be found; "
            "give --annotations GT.json"
        )
    if annotations is not None:
        found = _split_of(annotations, images)
    else:
        found = _split_of_run(next(run for run in runs if run.config), split)
    known = {run.name: _with_fingerprints(run, iou_type) for run in runs}
    grounds = _readings(found, iou_type, repaired=bool(runs))
    for ground in grounds:
        chosen = [_made_on(ground, known.get(e.name, e.evaluations), e.is_run) for e in entries]
        if all(chosen):
            return ground, [one for one in chosen if one]
    _refuse(entries, known, grounds, found, given=annotations is not None)


def _readings(split: Split, iou_type: str, *, repaired: bool) -> list[GroundTruth]:
    """The annotation file as runs read it, repaired where needed, and as it is written."""
    path = split.annotations
    written = read_content(split) if split.lists else path
    names = _file_names(written)
    folder = names_start(split.images, names.values()) if split.images.is_dir() else None
    if folder is not None:  # no picture is drawn of what lies elsewhere
        names = {i: name for i, name in names.items() if not leads_out(split, folder, name)}
    grounds = [GroundTruth(path, written, read_truth(written, iou_type=iou_type), folder, names)]
    if repaired:
        read = _as_runs_read_it(split, iou_type)
        content = to_coco_dict(read)
        truth = read_truth(content, iou_type=iou_type)
        grounds.insert(0, GroundTruth(path, content, truth, folder, names))
    return grounds


def _as_runs_read_it(split: Split, iou_type: str) -> Annotations:
    masks, keypoints = iou_type == "segm", iou_type == "keypoints"
    split = replace(split, outside=True)  # opens no image
    return load_annotations(split, masks=masks, keypoints=keypoints)[0]


def _made_on(
    ground: GroundTruth, evaluations: Sequence[Evaluated], is_run: bool
) -> Evaluated | None:
    """Those results that were scored against this; of a results file nobody knows."""
    if not is_run:
        return evaluations[0]
    wanted = ground.fingerprint
    return next((one for one in evaluations if one.ground_truth == wanted), None)


def _refuse(
    entries: Sequence[Entry],
    known: dict[str, list[Evaluated]],
    grounds: Sequence[GroundTruth],
    split: Split,
    *,
    given: bool,
) -> NoReturn:
    """Names the first run without results on the common ground truth."""
    wanted = {ground.fingerprint for ground in grounds}
    first = next(entry for entry in entries if entry.is_run and (given or entry.config))
    lacking = next(
        entry
        for entry in entries
        if entry.is_run and not wanted & {one.ground_truth for one in known[entry.name]}
    )
    own, asked = _annotations_of(lacking), str(split.annotations)
    if not given and lacking is not first:
        asked = f"the ground truth of {first.place}, {split.annotations}"
    if own and own.resolve() != split.annotations.resolve():
        problem = f"evaluated on {own}, not on {asked}"
    else:
        problem = f"not evaluated on what is now in {asked}"
    where = f"--annotations {split.annotations} --images {split.images}"
    if split.lists:
        where = f"--data {split.images} --split {split.name}"
    raise InputError(f"{lacking.place}: {problem}; do `detnet evaluate {lacking.place} {where}`")


def _with_fingerprints(run: Entry, iou_type: str) -> list[Evaluated]:
    """The run's evaluations with what they were scored against."""
    found = []
    for one in run.evaluations:
        written = _written_fingerprint(one.results.with_name("scores.json"), iou_type)
        own = one.results.parent == run.place / "evaluation"
        if written is None and own and run.config is not None:
            written = _fingerprint_of_run(run, iou_type)  # of version 0.1, which wrote none
        found.append(Evaluated(one.results, written))
    return found


def _written_fingerprint(scores: Path, iou_type: str) -> str | None:
    if not scores.is_file():
        return None
    content = read_json(scores)
    part = content.get(iou_type) if iou_type != "bbox" and isinstance(content, dict) else content
    written = part.get("ground_truth") if isinstance(part, dict) else None
    return written if isinstance(written, str) else None


def _fingerprint_of_run(run: Entry, iou_type: str) -> str:
    read = _as_runs_read_it(_split_of_run(run, "val"), iou_type)
    return fingerprint(read_truth(to_coco_dict(read), iou_type=iou_type))


def _annotations_of(run: Entry) -> Path | None:
    try:
        return _split_of_run(run, "val").annotations if run.config else None
    except (InputError, OSError):
        return None


def _split_of_run(run: Entry, split: str) -> Split:
    """What a run is evaluated on, its own split unless another one is asked for."""
    config = run.config
    assert config is not None  # callers have seen to it
    try:
        own = find_val(config) if split in ("val", config.val_split) else None
        if own is None and config.data:
            own = find_split(Path(config.data), split)
    except InputError as error:
        raise InputError(
            f"{run.place}: its ground truth is not found ({error}); give --annotations GT.json"
        ) from error
    if own is None:
        raise InputError(f"{run.place}: its settings name no split; give --annotations GT.json")
    return own


def _split_of(annotations: Path, images: Path | None) -> Split:
    """An annotation file with its images, or, where these are not found, without."""
    if not annotations.is_file():
        raise InputError(f"{annotations}: no such annotation file")
    if images is not None:
        return find_split(annotations, "val", images=images)
    try:
        return find_split(annotations, "val")
    except InputError:
        return Split("val", annotations, annotations.parent)


def _file_names(annotations: Path | dict[str, Any]) -> dict[int, str]:
    """By image id; those that the file does not tell are left out."""
    content = annotations if isinstance(annotations, dict) else read_json(annotations)
    images = content.get("images") if isinstance(content, dict) else None
    records = [one for one in images or () if isinstance(one, dict)]
    return {
        one["id"]: one["file_name"]
        for one in records
        if isinstance(one.get("id"), int) and isinstance(one.get("file_name"), str)
    }
