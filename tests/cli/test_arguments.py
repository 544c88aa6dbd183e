"""The parser: every mistake is an `InputError` of one line, with the nearest name."""

import argparse

import pytest

from detnet.cli.arguments import Parser, did_you_mean
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
