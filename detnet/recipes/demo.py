"""The demonstration: made-up scenes or one's own data, a narrow detector, a page about it."""

from dataclasses import dataclass
from pathlib import Path

from detnet.data.shapes import write_scenes
from detnet.recipes.config import TrainConfig, make_config, read_config
from detnet.recipes.detect import resume, train
from detnet.recipes.pages.page import make_page
from detnet.recipes.run_state import Watch

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


def _config(place: Path) -> TrainConfig:
    return make_config("demo", {"data": str(place)})
