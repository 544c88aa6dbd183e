"""The demonstration: made-up scenes or one's own data, a narrow detector, a page about it."""

from dataclasses import dataclass
from pathlib import Path

from detnet.data.coco import load_annotations
from detnet.data.folders import find_splits
from detnet.data.shapes import write_scenes
from detnet.detectors.files import read_info
from detnet.engine.runs import RunFolder
from detnet.recipes.config import TrainConfig, make_config, read_config
from detnet.recipes.detect import Watch, resume, train
from detnet.recipes.pictures import write_pictures
from detnet.report.page import write_page

TRAIN_SCENES, VAL_SCENES = 320, 64


@dataclass(frozen=True)
class Outcome:
    """What a demonstration left behind: its run folder, and the page, None when interrupted."""

    run: Path
    page: Path | None


def demo(output: Path, data: Path | None, *, watch: Watch) -> Outcome:
    """Trains on the data, or on scenes made for it, and writes pictures and a page.

    A second call goes on where the first was interrupted; when it was complete, only the page is
    written again.

    Args:
        output: folder for the scenes and the run.
        data: a data set folder; None makes scenes.
        watch: see `detnet.recipes.detect.train`.

    Raises:
        InputError: the data cannot be used, or `output` holds a run on other data.
    """
    scenes = output / "scenes"
    if data is None and not (scenes / "annotations" / "instances_val.json").exists():
        watch({"event": "note", "text": f"drawing {TRAIN_SCENES} + {VAL_SCENES} scenes: {scenes}"})
        write_scenes(scenes, train=TRAIN_SCENES, val=VAL_SCENES)
    place = (data or scenes).resolve()
    run = output / (f"run-{data.resolve().name}" if data else "run")
    if (run / "config.yaml").exists() and Path(read_config(run / "config.yaml").data) == place:
        complete = resume(run, watch=watch)
    else:
        complete = train(_config(place), run, watch=watch)
    return Outcome(run, make_page(run) if complete else None)


def make_page(run: Path, *, count: int = 12) -> Path:
    """Draws a run's best results and writes its page.

    Raises:
        InputError: there is no run, or its data is not there any more.
    """
    folder = RunFolder.open(run)
    config = read_config(folder.config)
    gallery = []
    results = folder.evaluation / "results.json"
    split = find_splits(Path(config.data)).get(config.val_split) if config.data else None
    if results.exists() and split is not None:
        masks = read_info(folder.best).detector.startswith("mask")
        annotations, _ = load_annotations(split, masks=masks)
        gallery = write_pictures(annotations, results, folder.evaluation / "pictures", count=count)
    return write_page(run, gallery=gallery)


def _config(place: Path) -> TrainConfig:
    return make_config("demo", {"data": str(place)})
