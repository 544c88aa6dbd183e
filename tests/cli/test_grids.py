"""Own thresholds, sizes and numbers of results as options."""

import argparse
import math

import pytest

from detnet.cli.arguments import Parser
from detnet.cli.grids import add_grid_arguments, grid_options
from detnet.errors import InputError


def parse(*words: str) -> argparse.Namespace:
    parser = Parser(prog="detnet")
    add_grid_arguments(parser)
    return parser.parse_args(words)


def test_options_are_keyword_arguments() -> None:
    assert grid_options(parse()) == {"iou_thresholds": (), "areas": {}, "max_dets": ()}
    words = "--iou-thresholds 0.55 0.9 --area tiny=0-2.5e2 --area huge=1e5-inf --max-dets 300 500"
    assert grid_options(parse(*words.split())) == {
        "iou_thresholds": (0.55, 0.9),
        "areas": {"tiny": (0, 250), "huge": (1e5, math.inf)},
        "max_dets": (300, 500),
    }


@pytest.mark.parametrize(
    "words, message",
    [
        ("--iou-thresholds 55", "55.0 must be above 0 and at most 1"),
        ("--iou-thresholds x", "--iou-thresholds: invalid float value: 'x'"),
        ("--area tiny", "'tiny' is not NAME=LOW-HIGH, such as tiny=0-256"),
        ("--area tiny=5", "is not NAME=LOW-HIGH"),
        ("--area =1-5", "is not NAME=LOW-HIGH"),
        ("--area tiny=5-1", "'tiny' has the edges (5.0, 1.0)"),
        ("--area tiny=nan-1", "'tiny' has the edges"),
        ("--area small=1-5", "'small' is one of COCO's"),
        ("--area a=1-5 --area a=1-9", "--area: 'a' is given 2 times"),
        ("--max-dets 0", "max_dets [0] must be whole numbers above 0"),
        ("--max-dets 1.5", "--max-dets: invalid int value: '1.5'"),
    ],
)
def test_mistakes_are_one_line(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        grid_options(parse(*words.split()))
    assert message in str(error.value) and "\n" not in str(error.value)
