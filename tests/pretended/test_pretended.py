"""Runs `cases/` in a process of their own: a registered device changes torch for all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration as registration

CASES = Path(__file__).parent / "cases"
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.skipif(
    not hasattr(registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no device in Python",
)


def run(marked: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked]
    files = [str(file) for file in sorted(CASES.glob("*.py"))]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, "\n" + done.stdout[-6000:] + done.stderr[-2000:]


def test_on_a_pretended_accelerator() -> None:
    run("not slow")


@pytest.mark.slow
def test_every_detector_on_every_family_on_a_pretended_accelerator() -> None:
    run("slow")
