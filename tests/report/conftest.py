"""One headless Chromium for all tests of pages."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.report.browser import Browser, find_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser() or _installed()
    if program is None:
        pytest.skip("no Chromium, and it cannot be installed here (apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


def _installed() -> str | None:
    """Debian's Chromium, where this user may install it."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        command = ["apt-get", "-q", *words]
        subprocess.run(command, env=environment, capture_output=True, timeout=600, check=False)
    return find_browser()
