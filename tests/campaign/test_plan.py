"""A campaign's folder: what is refused before anything begins, and what can be added."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.backbones import BACKBONES
from detnet.campaign.plan import RESULT, begin_campaign, open_campaign
from detnet.cli import main
from detnet.detectors import DETECTORS
from detnet.errors import InputError
from tests.campaign.small_campaign import TRAIN, VARIANTS, pretend

Write = Callable[..., Path]


def test_seeds_and_variants_can_be_added(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    folder = tmp_path / "c"
    before = begin_campaign(campaign_file(seeds=1), folder, root=campaign_data)
    more = {**VARIANTS, "slow": {**VARIANTS["detnet59"], "lr": 0.001}}
    after = begin_campaign(campaign_file(seeds=2, variants=more), folder, root=campaign_data)
    assert after.plan.runs[: len(before.plan.runs)] == before.plan.runs
    assert after.plan.identity == before.plan.identity
    names = [run.folder for run in after.runs]
    assert "scenes/slow/seed-0" in names and "pretrain/slow/seed-0" not in names
    assert after.seeds_paired("detnet59", "slow"), "they share their pre-training"
    assert not after.seeds_paired("detnet59", "resnet50")
    rounds = [after.round_of(run) for run in after.runs]
    assert rounds == sorted(rounds), "what was added later is of the first round still"


def test_pairs_are_decided_before_a_score_can_be_seen(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    folder, told = tmp_path / "c", "paired is true, but .* planned with false and has scores"
    begin_campaign(campaign_file(paired=True), folder, root=campaign_data)
    before = begin_campaign(campaign_file(), folder, root=campaign_data)  # nothing was scored yet
    result = folder / before.runs[-1].folder / RESULT
    result.parent.mkdir(parents=True)
    result.touch()
    begin_campaign(campaign_file(), folder, root=campaign_data)
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(paired=True), folder, root=campaign_data)
    plan = folder / "plan.json"  # an earlier version's tells nothing, but campaign.yaml does
    plan.write_text(plan.read_text().replace('"paired": false', '"paired": null'))
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(paired=True), folder, root=campaign_data)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"scenes": "nowhere"}}, r"c\.yaml: data: scenes: .*nowhere: no such folder"),
        ({"storage": "mysql://host"}, r"c\.yaml: storage mysql://host: give postgresql"),
        ({"variants": {**VARIANTS, "x": {"backbone": "detnet95"}}}, "unknown backbone 'detnet95'"),
        ({"train": {**TRAIN, "detector_options": {"roi_bach": 1}}}, "roi_bach"),
    ],
)
def test_what_a_run_would_find_out_after_hours_is_refused_first(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(**changes), tmp_path / "c", root=campaign_data)
    assert not (tmp_path / "c" / "plan.json").exists()


PLUGIN = """
from pathlib import Path
from detnet.backbones import BACKBONES
from detnet.detectors import DETECTORS
with Path(__file__).with_name("imported").open("a") as file:
    file.write("x")
BACKBONES.register("thin", "detnet.backbones.resnet:resnet50")
DETECTORS.register("own", "detnet.detectors.retinanet:RetinaNet")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Writes `own_plugin` beside the campaign file, and gives what forgets it again."""

    def forget() -> None:
        monkeypatch.setattr("detnet.plugins._loaded", {})
        sys.modules.pop("own_plugin", None)
        BACKBONES._homes.pop("thin", None)
        DETECTORS._homes.pop("own", None)

    (tmp_path / "own_plugin.py").write_text(PLUGIN)
    monkeypatch.setattr("sys.path", [*sys.path])
    forget()
    yield forget
    forget()


def test_a_plugin_beside_the_file_is_recorded_and_not_imported_to_look(
    tmp_path: Path,
    campaign_data: Path,
    campaign_file: Write,
    plugin: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    variants = {"own": {"backbone": "thin", "width": 0.125}, "detnet59": VARIANTS["detnet59"]}
    train = {name: value for name, value in TRAIN.items() if name != "detector_options"}
    file = campaign_file(
        plugins=["own_plugin"],
        variants=variants,
        train={**train, "detector": "own"},
        questions=["own over detnet59: AP"],
    )
    folder = tmp_path / "c"
    campaign = begin_campaign(file, folder, root=campaign_data)
    named = [f"{tmp_path}:own_plugin"]
    assert yaml.safe_load((folder / "campaign.yaml").read_text())["plugins"] == named
    assert all(run.settings["plugins"] == named for run in campaign.plan.runs)
    for number, run in enumerate(campaign.runs):
        pretend(campaign, run, skill=0.5 + number / 20)
    plugin()
    assert main(["campaign", "show", str(folder)]) == 0
    assert "own over detnet59: AP, on scenes" in capsys.readouterr().out
    assert open_campaign(folder).asked == campaign.asked
    assert (tmp_path / "imported").read_text() == "x", "by what began it alone"

    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "kinds": {}}))  # an earlier version's
    assert main(["campaign", "show", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown detector 'own'" in line and line.endswith(f"; it names --plugin {named[0]}")
    assert main(["campaign", "show", str(folder), "--plugin", named[0]]) == 0
    plugin()
    assert main(["campaign", "worker", str(folder)]) == 0, "nothing is left"
    assert (tmp_path / "imported").read_text() == "xxx"


def test_other_folders_are_no_campaigns(tmp_path: Path, campaign_file: Write) -> None:
    with pytest.raises(InputError, match="holds no campaign"):
        open_campaign(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(InputError, match="holds a run"):
        begin_campaign(campaign_file(), tmp_path)
