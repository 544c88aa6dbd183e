"""Which split a run's settings mean, without a word of torch."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig, find_train, find_val


def test_the_splits_of_a_folder(scenes: Path, tiny: TrainConfig) -> None:
    train, val = find_train(tiny), find_val(tiny)
    assert train.annotations == scenes / "annotations" / "instances_train.json"
    assert train.images == scenes / "train"
    assert val is not None and val.annotations == scenes / "annotations" / "instances_val.json"
    assert find_val(replace(tiny, val_split="none")) is None
    named = find_val(replace(tiny, val_split="train"))
    assert named is not None and named.annotations == train.annotations
    with pytest.raises(InputError, match="vall"):
        find_val(replace(tiny, val_split="vall"))


def test_the_splits_of_named_files(scenes: Path, tiny: TrainConfig) -> None:
    truth = scenes / "annotations" / "instances_val.json"
    files = {"train_annotations": str(truth), "train_images": str(scenes / "val")}
    config = replace(tiny, data="", **files)
    assert find_train(config).images == scenes / "val"
    assert find_val(config) is None
    files = {"val_annotations": str(truth), "val_images": str(scenes / "val")}
    found = find_val(replace(tiny, data="", **files))
    assert found is not None and found.annotations == truth
    with pytest.raises(InputError, match="no data: give --data FOLDER"):
        find_train(replace(tiny, data=""))


def test_images_that_lie_elsewhere(scenes: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    """A folder with the annotations alone, as where the images are on a faster disk."""
    shutil.copytree(scenes / "annotations", tmp_path / "annotations")
    config = replace(tiny, data=str(tmp_path), train_images=str(scenes / "train"))
    assert find_train(config).images == scenes / "train"
    found = find_val(replace(config, val_images=str(scenes / "val")))
    assert found is not None and found.images == scenes / "val"
    assert found.annotations == tmp_path / "annotations" / "instances_val.json"
    with pytest.raises(InputError, match="nowhere: the folder of images does not exist"):
        find_val(replace(config, val_images="nowhere"))


def test_pages_do_not_wait_for_torch() -> None:
    """Torch alone takes seconds to import; a page needs neither models nor tensors."""
    modules = "report.run", "evaluation.comparison.sources", "report.comparison"
    imports = "; ".join(f"import detnet.{module}" for module in modules)
    check = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
