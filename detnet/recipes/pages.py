"""A run's page with its pictures."""

from pathlib import Path

from detnet.data.coco import load_annotations
from detnet.engine.runs import RunFolder
from detnet.recipes.config import read_config
from detnet.recipes.material import MASK_DETECTORS, find_val
from detnet.recipes.pictures import write_pictures
from detnet.report.page import write_page


def make_page(run: Path, *, count: int = 12) -> Path:
    """Draws a run's best results and writes its page.

    Args:
        run: its folder.
        count: how many pictures.

    Returns:
        The page's path.

    Raises:
        InputError: there is no run, or its data is not there any more.
    """
    folder = RunFolder.open(run)
    config = read_config(folder.config)
    gallery = []
    results, split = folder.evaluation / "results.json", find_val(config)
    if results.exists() and split is not None:
        annotations, _ = load_annotations(split, masks=config.detector in MASK_DETECTORS)
        gallery = write_pictures(annotations, results, folder.evaluation / "pictures", count=count)
    return write_page(run, gallery=gallery)
