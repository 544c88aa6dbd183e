"""The parser: every mistake is an `InputError` of one line, with the nearest name."""

import argparse
import math

import pytest

from detnet.cli.arguments import Parser, add_grid_arguments, did_you_mean, grid_options
from detnet.errors import InputError


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="detnet trial")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--output", metavar="DIR")
    parser.add_argument("--level", choices=("low", "high"), default="low")
    parser.add_argument("--count", type=int, default=1)
    return parser


def test_what_is_right_is_parsed(parser: Parser) -> None:
    args = parser.parse_args(["a", "--level", "high", "--count", "3"])
    expected = argparse.Namespace(data="a", output=None, level="high", count=3)
    assert args == expected


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "the following arguments are required: DATA"),
        (["a", "b"], "unexpected argument 'b'"),
        (["a", "--levle", "low"], "unknown option '--levle' (did you mean '--level'?)"),
        (["a", "--outptu=b"], "unknown option '--outptu' (did you mean '--output'?)"),
        (["a", "--out", "b"], "unknown option '--out' (did you mean '--output'?)"),
        (["a", "--level", "hihg"], "--level: unknown 'hihg' (did you mean 'high'?); one of low, h"),
        (["a", "--level", "middle"], "--level: unknown 'middle'; one of low, high"),
        (["a", "--count", "1.5"], "--count: invalid int value: '1.5'"),
        (["a", "--output"], "--output: expected one argument"),
    ],
)
def test_mistakes_are_one_line(parser: Parser, argv: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        parser.parse_args(argv)
    message = str(caught.value)
    assert said in message and "\n" not in message
    assert message.endswith("; see `detnet trial --help`")


def test_a_remark_on_the_nearest_name_or_none() -> None:
    assert did_you_mean("trian", ["train", "val"]) == " (did you mean 'train'?)"
    assert did_you_mean("xyzzy", ["train", "val"]) == ""


def parse_grid(*words: str) -> argparse.Namespace:
    parser = Parser(prog="detnet")
    add_grid_arguments(parser)
    return parser.parse_args(words)


def test_options_are_keyword_arguments() -> None:
    assert grid_options(parse_grid()) == {"iou_thresholds": (), "areas": {}, "max_dets": ()}
    words = "--iou-thresholds 0.55 0.9 --area tiny=0-2.5e2 --area huge=1e5-inf --max-dets 300 500"
    assert grid_options(parse_grid(*words.split())) == {
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
def test_mistakes_in_a_grid_are_one_line(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        grid_options(parse_grid(*words.split()))
    assert message in str(error.value) and "\n" not in str(error.value)
