"""`detnet info` lays out what the cost module says."""

import pytest

from detnet.cli import main
from detnet.cli.info import aligned


def test_text_names_cost_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "detnet59"]) == 0
    lines = capsys.readouterr().out.splitlines()
    macs = next(line for line in lines if line.startswith("multiply-adds"))
    assert macs.split()[1] == "4,846,018,560"
    c6 = next(line for line in lines if line.startswith("c6"))
    assert c6.split() == ["c6", "1,024", "16", "675", "px"]


@pytest.mark.parametrize("options", [["--width", "0"], ["--image-size", "0", "32"]])
def test_sizes_must_be_positive(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "detnet59", *options]) == 2
    assert "must be positive" in capsys.readouterr().err


def test_aligned_columns() -> None:
    assert aligned([("a", "1"), ("long", "1000")]) == ["a        1", "long  1000"]
