"""`detnet info` lays out what the cost module says."""

import pytest

from detnet.cli import main


def test_text_names_cost_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "detnet59"]) == 0
    lines = capsys.readouterr().out.splitlines()
    macs = next(line for line in lines if line.startswith("multiply-adds"))
    assert macs.split()[1] == "4,846,018,560"
    c6 = next(line for line in lines if line.startswith("c6"))
    assert c6.split() == ["c6", "1,024", "16", "675", "px"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--image-size", "0", "32"], "--image-size must be positive"),
        (["--image-size", "8", "8"], "smaller than detnet59's coarsest stride"),
        (["--width", "0"], "width must lie in (0, 8], got 0.0"),
        (["--width", "9"], "width must lie in (0, 8], got 9.0"),
        (["--backbone-option", "width=0.5"], "width is a setting of its own: give width"),
        (["--width", "nan"], "width must lie in (0, 8], got nan"),
    ],
)
def test_what_no_backbone_can_have_is_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "detnet59", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("detnet: error: ") and err.count("\n") == 1
    assert said in err
