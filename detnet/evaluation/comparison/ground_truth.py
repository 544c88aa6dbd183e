"""The ground truth that results were made on, known by its content, never by the name of a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from detnet.coco.annotations import Annotations
from detnet.coco.keypoints import KeypointLayout
from detnet.data.contents import read_content
from detnet.data.folders import Split, find_split, leads_out, names_start
from detnet.errors import InputError
from detnet.evaluation.comparison.entries import Entry, Evaluated
from detnet.evaluation.ground_truth import Truths, load_scored, trained_on
from detnet.evaluation.normalise import Truth, fingerprint, read_truth
from detnet.files import read_json
from detnet.training.detection.splits import find_val


@dataclass(frozen=True)
class GroundTruth:
    """What was to be found.

    Args:
        path: the annotation file.
        truth: what the evaluation takes: the file as it is, or what was made of it by repairs.
        images: where the file names of the images start; None where there are no images.
        file_names: by image id.
        layout: which keypoints there are, None where the file names none.
    """

    path: Path
    truth: Truth
    images: Path | None
    file_names: dict[int, str] = field(repr=False)
    layout: KeypointLayout | None = None

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
    grounds = []
    for ground in _readings(found, iou_type, of_runs=bool(runs)):
        chosen = [_made_on(ground, known.get(e.name, e.evaluations), e.is_run) for e in entries]
        if all(chosen):
            return ground, [one for one in chosen if one]
        grounds.append(ground)
    _refuse(entries, known, grounds[0], found, given=annotations is not None)


def _readings(split: Split, iou_type: str, *, of_runs: bool) -> Iterator[GroundTruth]:
    """The annotation file as runs are scored on it, as they were in earlier versions, repaired like
    what they are trained on, and, which alone is that of results files, as it is written.
    """
    path = split.annotations
    written = read_content(split) if split.lists else read_json(path)
    names = _file_names(written)
    folder = names_start(split.images, names.values()) if split.images.is_dir() else None
    if folder is not None:  # no picture is drawn of what lies elsewhere
        names = {i: name for i, name in names.items() if not leads_out(split, folder, name)}

    def ground(truth: Truth) -> GroundTruth:
        categories = written.get("categories", []) if iou_type == "keypoints" else []
        layout = KeypointLayout.from_json(categories, file=str(path))
        return GroundTruth(path, truth, folder, names, layout)

    if of_runs:
        annotations, repairs, truths = _as_runs_read_it(split, iou_type)
        yield ground(truths.of(iou_type))
        yield ground(trained_on(annotations, repairs).of(iou_type))
    yield ground(read_truth(written if split.lists else path, iou_type=iou_type))


def _as_runs_read_it(split: Split, iou_type: str) -> tuple[Annotations, list[str], Truths]:
    split = replace(split, outside=True)  # opens no image
    return load_scored(split, masks=iou_type == "segm", keypoints=iou_type == "keypoints")


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
    ground: GroundTruth,
    split: Split,
    *,
    given: bool,
) -> NoReturn:
    """Names the first run without results on the ground truth that runs have in common now."""
    first = next(entry for entry in entries if entry.is_run and (given or entry.config))
    lacking = next(
        entry
        for entry in entries
        if entry.is_run
        and ground.fingerprint not in {one.ground_truth for one in known[entry.name]}
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
    annotations, repairs, _ = _as_runs_read_it(_split_of_run(run, "val"), iou_type)
    return fingerprint(trained_on(annotations, repairs).of(iou_type))


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


def _file_names(content: Any) -> dict[int, str]:
    """By image id; those that the file does not tell are left out."""
    images = content.get("images") if isinstance(content, dict) else None
    records = [one for one in images or () if isinstance(one, dict)]
    return {
        one["id"]: one["file_name"]
        for one in records
        if isinstance(one.get("id"), int) and isinstance(one.get("file_name"), str)
    }
