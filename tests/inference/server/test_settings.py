"""Limits are sound, tokens are read, and a worker is told what its parent was."""

from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.inference.server.settings import ServerLimits, ServerSettings, digest, read_tokens


def test_settings_come_through_as_they_were() -> None:
    limits = ServerLimits(max_batch=4, max_body=7)
    settings = ServerSettings("a", "torch", limits, ("ab", "cd"), ("x:y",))
    assert "\n" not in settings.to_json()
    assert ServerSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    "name", ["max_batch", "max_wait_ms", "max_pixels", "max_body", "max_queue"]
)
def test_limits_have_limits(name: str) -> None:
    for value in (-1, 2**50):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')} must be"):
            ServerLimits(**{name: value})


def test_tokens_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    one, two = "a" * 16, "b" * 40
    path.write_text(f"# mine\n{one}\n\n  {two}  \n{one}\n")
    assert read_tokens(path) == (digest(one), digest(two))
    assert one not in str(read_tokens(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no token"),
        ("# only this\n", "holds no token"),
        (f"{'a' * 20}\nshort\n", "line 2 is no token"),
        ("with a space in the middle\n", "line 1 is no token"),
        ("ä" * 20, "line 1 is no token"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_tokens(path)
    with pytest.raises(InputError, match="no such file"):
        read_tokens(tmp_path / "none")
