"""`detnet campaign` as a person calls it; how it works is in tests/campaign."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from detnet.campaign.plan import begin_campaign
from detnet.cli import campaign, main, make_parser
from detnet.data.scenes import write_scenes
from detnet.engine.memory import OutOfMemory
from tests.campaign.small_campaign import CAMPAIGN, TRAIN


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a campaign file beside its data, here."""
    monkeypatch.chdir(tmp_path)

    def write(**changes: object) -> Path:
        train = {**TRAIN, "iterations": 1, "evaluate_every": 9}
        small = {"pretrain": None, "train": train, "seeds": 1}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CAMPAIGN, **small, **changes}))
        return tmp_path

    return write


@pytest.mark.slow
def test_train_show_and_show_again(
    place: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place()
    write_scenes(folder / "scenes", train=2, val=6, size=(128, 96))
    assert main(["campaign", "c.yaml", "--output", "c"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "see `detnet campaign show c`\n"
    assert "detnet59 on scenes" in captured.err and "G × 2 images" in captured.err
    assert "2 runs left, about" in captured.err
    assert "run 2 of 2: resnet50 on scenes, seed 0: AP " in captured.err
    for variant in ("detnet59", "resnet50"):
        assert (folder / "c/scenes" / variant / "seed-0/last/scores.json").is_file()
    assert main(["campaign", "worker", "c"]) == 0, "nothing is left"

    assert main(["campaign", "show", "c", "--results-table", "R.md"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"detnet59 over resnet50: AP, on scenes\n  \S+ points: cannot tell", shown)
    assert "look at c/campaign.html" in shown and (folder / "c/campaign.html").is_file()
    assert "`detnet campaign c.yaml --output c`" in (folder / "R.md").read_text()
    assert main(["campaign", "show", "c", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 2


def test_runs_that_fail_are_told_and_end_with_1(
    place: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: object) -> bool:
        raise OutOfMemory("training takes more memory than there is")

    monkeypatch.setattr("detnet.campaign.carry_out.carry_out", lacking)
    write_scenes(place(retries=0) / "scenes", train=2, val=6, size=(128, 96))
    assert main(["campaign", "c.yaml", "--output", "c", "--no-estimate"]) == 1
    *_, failed, again = capsys.readouterr().err.splitlines()
    assert "resnet50 on scenes, seed 0: failed: RuntimeError: training takes more mem" in failed
    told = "try them again with: detnet campaign c.yaml --output c --no-estimate"
    assert again.endswith(told)


def test_a_folder_that_cannot_be_written_is_shown_with_the_page_elsewhere(
    place: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place()
    write_scenes(folder / "scenes", train=2, val=2, size=(128, 96))
    begin_campaign(folder / "c.yaml", folder / "c")
    (folder / "c/campaign.html").mkdir()  # as good as read-only
    assert main(["campaign", "show", "c"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: c/campaign.html: " in line
    assert line.endswith("; give the page another place by --output FILE")
    assert main(["campaign", "show", "c", "--output", "page.html"]) == 0


def test_a_worker_that_is_stopped_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detnet.campaign.work.join_campaign", lambda *args, **options: False)
    assert main(["campaign", "worker", "my runs/c", "--storage", "sqlite:///s.db"]) == 130
    told = "go on with: detnet campaign worker 'my runs/c' --storage URL"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c.yaml"], "the following arguments are required: --output"),
        (["nowhere.yaml", "--output", "c"], "nowhere.yaml: no such file"),
        (["c.yaml", "--output", "c", "--workrs", "2"], "unknown option '--workrs'"),
        (["show", "nowhere"], "nowhere: holds no campaign"),
        (["worker", "nowhere"], "nowhere: holds no campaign"),
        (["c.yaml", "--output", "c"], "c.yaml: question 1: unknown variant 'detnet'"),
    ],
)
def test_mistakes_are_one_line(
    place: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    place(questions=["detnet over resnet50: AP"])
    assert main(["campaign", *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("detnet: error: ") and message in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], ""),
        (["--workers", "3", "--budget", "2"], " --workers 3"),
        (
            ["--data-root", "d", "--storage", "postgresql://me:secret@h/n"],
            " --data-root d --storage URL",
        ),
        (["--data-root", "my data", "--plugin", "mine"], " --data-root 'my data' --plugin mine"),
        (["--no-estimate"], " --no-estimate"),
    ],
)
def test_what_goes_on_is_told_as_it_was_begun(options: list[str], told: str) -> None:
    parser = make_parser("campaign", campaign)
    args = parser.parse_args(["c.yaml", "--output", "c", *options])
    assert campaign.command_again(args) == f"detnet campaign c.yaml --output c{told}"
