"""The command-line reference tells every command with all its options."""

import argparse

import pytest

from docs._tools.commands import Command, command_page, commands, index_page, prose


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.page)
def test_every_option_and_its_default_is_told(command: Command) -> None:
    page = command_page(command)
    assert page.startswith(f"# detnet {command.name}\n\n{command.summary[:20]}")
    for action in command.parser()._actions:
        if action.help != argparse.SUPPRESS:
            assert all(name in page for name in action.option_strings or [action.metavar])
    assert "(default:" not in page


def test_the_index_leads_to_all_of_them() -> None:
    found = list(commands())
    page = index_page(found)
    assert len(found) > 16 and all(f"]({each.page}.md)" in page for each in found)


def test_prose_keeps_what_is_typed_apart() -> None:
    text = prose("Does it.\n\n    detnet x --a_b *\n\nGive --out DIR or a_b, not *c*.")
    assert text.splitlines() == [
        *("Does it.", "", "```sh", "detnet x --a_b *", "```", ""),
        "Give `--out` DIR or `a_b`, not \\*c\\*.",
    ]
