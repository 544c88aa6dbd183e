"""Data and file of a campaign small enough to be run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detnet.campaign.plan import Campaign, begin_campaign
from detnet.data.scenes import write_scenes
from tests.campaign.small_campaign import CAMPAIGN


@pytest.fixture(scope="session")
def campaign_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    write_scenes(folder / "scenes", train=6, val=8, size=(128, 96))
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("dark", "light"):
            place = folder / "classes" / split / name
            place.mkdir(parents=True)
            for index in range(2):
                pixels = rng.integers(0, 120, (40, 48, 3)) + 120 * (name == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def planned(campaign_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("planned")
    (folder / "c.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    return begin_campaign(folder / "c.yaml", folder / "c", root=campaign_data)


@pytest.fixture
def campaign_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a campaign file with changes, and gives its place."""

    def write(**changes: Any) -> Path:
        file = tmp_path / "c.yaml"
        file.write_text(yaml.safe_dump({**CAMPAIGN, **changes}))
        return file

    return write
