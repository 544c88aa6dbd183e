"""Detectors compared from what they left behind: evaluated run folders and results files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detnet.coco.ground_truth import GroundTruth, fingerprint, ground_truth_of_table
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.table import AnnotationTable
from detnet.data.folders import Split, find_split, leads_out, names_start
from detnet.data.reading import load_scored, read_content
from detnet.errors import InputError
from detnet.evaluation.comparison.compare import Comparison, ImageObjects, compare
from detnet.evaluation.detections import Detections, read_detections
from detnet.evaluation.files import DetectorScores, read_scores
from detnet.files import read_json


@dataclass(frozen=True)
class ComparedSplit:
    """What was to be found.

    Args:
        path: the annotation file.
        truth: what the evaluation takes: the file as it is, or what was made of it by repairs.
        images: where the file names of the images start; None where there are no images.
        file_names: by image id.
        layout: which keypoints there are, None where the file names none.
    """

    path: Path
    truth: GroundTruth
    images: Path | None
    file_names: dict[int, str] = field(repr=False)
    layout: KeypointLayout | None = None


@dataclass(frozen=True)
class Compared:
    """A comparison and what it was made from.

    Args:
        comparison: of `detnet.evaluation.comparison.compare`, its pictures with their "file_name",
            and "sources", the results files.
        ground_truth: that all have in common.
        results: of each detector.
    """

    comparison: Comparison
    ground_truth: ComparedSplit
    results: Sequence[Path | list[dict[str, Any]]]

    def detections(self, index: int) -> Detections:
        """Of one detector, as columns; its file is read once more."""
        return read_detections(
            self.results[index], self.ground_truth.truth, iou_type=self.comparison["iou_type"]
        )


@dataclass(frozen=True)
class _Evaluated:
    """The results of one evaluation; what is not known of a results file is None."""

    results: Path
    scores: DetectorScores | None = None

    @property
    def split(self) -> Split | None:
        return self.scores.split if self.scores else None

    def is_on(self, truth: str, iou_type: str) -> bool:
        """Whether it was scored against ground truth of this fingerprint."""
        kinds = self.scores.kinds if self.scores else []
        return truth in (one.ground_truth for one in kinds if one.iou_type == iou_type)


@dataclass(frozen=True)
class _Entry:
    """One of the detectors: a run folder with its evaluations, that on its own split first, or a
    results file.
    """

    place: Path
    evaluations: list[_Evaluated]

    @property
    def is_run(self) -> bool:
        return self.place.is_dir()


def compare_sources(
    sources: Sequence[Path],
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    split: str = "val",
    iou_type: str = "bbox",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Compared:
    """Compares runs and results files with the first of them.

    Args:
        sources: run folders and COCO results files, at least two.
        annotations: the ground truth; by default that of the first run's evaluation.
        images: the folder of its images, if that is not beside it.
        split: on which the runs were evaluated; "val" for their own, whatever that is.
        options: of `detnet.evaluation.comparison.compare.compare`.

    Raises:
        InputError: a source cannot be used, or they are of different ground truth.
    """
    entries = _find_entries(sources)
    used = _split_of(annotations, images) if annotations else _split_of_runs(entries, split)
    of_runs = any(entry.is_run for entry in entries)
    ground_truth = read_compared_split(used, iou_type, of_runs=of_runs)
    wanted = fingerprint(ground_truth.truth)
    chosen = [_made_on(wanted, iou_type, entry, used) for entry in entries]
    results = [
        _records(entry, one.results, ground_truth.truth, iou_type)
        for entry, one in zip(entries, chosen, strict=True)
    ]
    comparison = compare(
        ground_truth.truth,
        results,
        names=short_names([source.resolve() for source in sources]),
        iou_type=iou_type,
        progress=progress,
        **options,
    )
    names = ground_truth.file_names
    for pair in comparison["pictures"]:
        pair["only_first"] = [_named(one, names) for one in pair["only_first"]]
        pair["only_other"] = [_named(one, names) for one in pair["only_other"]]
    notes = [
        f"{name}: {note}"
        for name, scores in zip(comparison["names"], comparison["scores"], strict=True)
        for note in scores.get("notes", ())
    ]
    if notes:
        comparison["notes"] = list(dict.fromkeys(notes))
    comparison["annotations"] = str(ground_truth.path)
    comparison["sources"] = [str(one.results) for one in chosen]
    return Compared(comparison, ground_truth, results)


def _named(one: ImageObjects, names: Mapping[int, str]) -> ImageObjects:
    image_id = one["image_id"]
    return {"image_id": image_id, "file_name": names.get(image_id), "truths": one["truths"]}


def short_names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, no longer than is needed to tell them apart."""
    stems = [path if path.is_dir() else path.with_suffix("") for path in paths]
    for length in range(1, max(len(stem.parts) for stem in stems) + 1):
        names = ["/".join(stem.parts[-length:]) for stem in stems]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _find_entries(sources: Sequence[Path]) -> list[_Entry]:
    if len(sources) < 2:
        raise InputError("a comparison needs at least two runs or results files")
    real = [source.resolve() for source in sources]
    for index, source in enumerate(sources):
        if real[index] in real[:index]:
            raise InputError(f"{source}: is given twice; compare it with another one")
    return [_entry(source) for source in sources]


def _entry(place: Path) -> _Entry:
    if place.suffix == ".safetensors":
        raise InputError(
            f"{place}: is a model; `detnet evaluate {place} --data DATA --output DIR` writes the "
            "results to compare, DIR/results.json"
        )
    if place.is_file():
        return _Entry(place, [_Evaluated(place)])
    if not place.is_dir():
        raise InputError(f"{place}: no such run folder or results file")
    folder = place / "evaluation"
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    evaluations = [
        _Evaluated(each / "results.json", read_scores(each))
        for each in (folder, *inside, place)
        if all((each / file).is_file() for file in ("results.json", "scores.json"))  # the last
    ]
    scores = folder / "scores.json"
    content = read_json(scores) if not evaluations and scores.is_file() else None
    if isinstance(content, dict) and "top1" in content:
        raise InputError(f"{place}: holds a classifier; detectors are compared here")
    if not evaluations:
        raise InputError(f"{place}: not evaluated yet; do `detnet evaluate {place} --data DATA`")
    return _Entry(place, evaluations)


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


def _split_of_runs(entries: Sequence[_Entry], name: str) -> Split:
    """What the first run was evaluated on, its own split unless another one is asked for."""
    run = next((entry for entry in entries if entry.is_run), None)
    if run is None:
        raise InputError(
            f"{entries[0].place}: results do not tell what was to be found; "
            "give --annotations GT.json"
        )
    found = [one.split for one in run.evaluations if one.split and one.split.name == name]
    split = run.evaluations[0].split if name == "val" else next(iter(found), None)
    if split is None:
        raise InputError(
            f"{run.place}: not evaluated on a split {name!r}; "
            f"do `detnet evaluate {run.place} --data DATA --split {name}`"
        )
    missing = next((file for file in split.files if not file.is_file()), None)
    if missing is not None:
        raise InputError(
            f"{run.place}: its ground truth is not found ({missing}: no such file); "
            "give --annotations GT.json"
        )
    return split


def read_compared_split(split: Split, iou_type: str, *, of_runs: bool) -> ComparedSplit:
    """Reads what is to be found, as runs are scored on it or, for results files alone, as it is.

    Args:
        of_runs: whether those who are compared were scored by us.

    Raises:
        InputError: the file is not there, or cannot be scored against.
    """
    path = split.annotations
    table = read_content(split, unlabelled=True, strict=True)
    names = _file_names(table)
    folder = names_start(split.images, names.values()) if split.images.is_dir() else None
    if folder is not None:  # no picture is drawn of what lies elsewhere
        names = {i: name for i, name in names.items() if not leads_out(split, folder, name)}
    keypoints = iou_type == "keypoints"
    categories = table.categories.rows if keypoints else []
    if of_runs:
        outside = replace(split, outside=True)  # opens no image
        _, _, truths = load_scored(outside, masks=iou_type == "segm", keypoints=keypoints)
        truth = truths.of(iou_type)
    else:
        truth = ground_truth_of_table(table, iou_type)
    layout = KeypointLayout.from_json(categories, file=str(path))
    return ComparedSplit(path, truth, folder, names, layout)


def _made_on(truth: str, iou_type: str, entry: _Entry, split: Split) -> _Evaluated:
    """Those results that were scored against this; of a results file nobody knows."""
    if not entry.is_run:
        return entry.evaluations[0]
    fitting = [one for one in entry.evaluations if one.is_on(truth, iou_type)]
    if fitting:
        return fitting[0]
    own = entry.evaluations[0].split
    problem = f"not evaluated on what is now in {split.annotations}"
    if own is not None and not own.same_as(split):
        problem = f"evaluated on {own.annotations}, not on {split.annotations}"
    where = f"--annotations {split.annotations} --images {split.images}"
    if split.format not in ("coco", "roboflow"):
        where = f"--data {split.root} --split {split.name}"
    raise InputError(f"{entry.place}: {problem}; do `detnet evaluate {entry.place} {where}`")


def _file_names(table: AnnotationTable) -> dict[int, str]:
    """By image id; those that the file does not tell are left out."""
    names = (row.get("file_name") for row in table.images.rows)
    pairs = zip(table.image_ids[0].tolist(), names, strict=True)
    return {image_id: name for image_id, name in pairs if isinstance(name, str)}


def _records(
    entry: _Entry, path: Path, truth: GroundTruth, iou_type: str
) -> Path | list[dict[str, Any]]:
    return results_of_run(path, truth, iou_type) if entry.is_run else path


def results_of_run(path: Path, truth: GroundTruth, iou_type: str) -> Path | list[dict[str, Any]]:
    """A run's results; those of masks or keypoints without boxes, as its evaluation scored them.

    A detection's size then is that of its mask, as in the ground truth, or of its keypoints.

    Raises:
        InputError: the file cannot be used.
    """
    if iou_type == "bbox":
        return path
    read_detections(path, truth, iou_type=iou_type)  # says which file it is that cannot be used
    records = [{k: v for k, v in record.items() if k != "bbox"} for record in read_json(path)]
    return [record for record in records if iou_type == "segm" or "keypoints" in record]
