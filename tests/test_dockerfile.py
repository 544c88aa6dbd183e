"""The container's packages: all that serving an export needs, nothing else, and no torch."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.inference.engines.tiny import tiny_export

ROOT = Path(__file__).parents[1]
# Of the package's own dependencies; the others are for training, reports and searches.
CORE = ("hotcoco", "numpy", "pillow", "pycocotools", "pyyaml")
LEFT_OUT = {"openvino-telemetry"}  # reports to OpenVINO's maker; it runs without
# Refuses whatever is not installed in the container, then serves an export as the worker does.
SERVING = """
import importlib.metadata, sys
allowed, folder = set(sys.argv[1].split()), sys.argv[2]
owners = {
    module: {name.lower().replace("_", "-") for name in names}
    for module, names in importlib.metadata.packages_distributions().items()
}
class Container:
    def find_spec(self, name, path=None, target=None):
        own = owners.get(name.partition(".")[0])
        if own and not own & allowed:
            raise ModuleNotFoundError(f"the container has no {name}", name=name)
sys.meta_path.insert(0, Container())
import detnet.cli.serve, detnet.inference.server.supervisor
from detnet.inference.server import worker
from detnet.inference.server.models import open_served
from detnet.inference.server.settings import ServerSettings
import numpy as np
worker.WorkerServer(ServerSettings(folder), print)
engine = open_served(folder, "auto")
(found,) = engine.detect([np.full((60, 100, 3), 204, np.uint8)], score_threshold=0.1)
assert len(found) == 2 and "torch" not in sys.modules
"""


def packages() -> list[str]:
    """Those that the Dockerfile's loop goes through."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found = re.search(r"for name in (.+?);", text)
    assert found is not None
    return found[1].split()


def needed(*names: str) -> set[str]:
    """These and whatever they require, without extras."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        wanted = map(Requirement, metadata.requires(name) or ())
        waiting += [
            canonicalize_name(each.name)
            for each in wanted
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found


def test_it_installs_what_serving_needs_and_no_more() -> None:
    pytest.importorskip("openvino", reason="needs the export extra")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    serve = extras["optional-dependencies"]["serve"]
    assert set(packages()) == needed(*serve, *CORE, "openvino") - LEFT_OUT


def test_each_is_locked_once() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    for name in packages():  # as the Dockerfile looks for it
        assert len(re.findall(rf"^{name}==[^;]*( ;.*)?$", locked, re.M)) == 1, name


def test_an_export_is_served_with_these_alone(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the export extra")
    folder = tiny_export(tmp_path / "export", "openvino", masks=True)

    def serve(allowed: list[str]) -> str:
        words = [sys.executable, "-c", SERVING, " ".join(["detnet", *allowed]), str(folder)]
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stderr

    assert serve(packages()) == ""
    without = [name for name in packages() if name != "opentelemetry-api"]
    assert "the container has no opentelemetry" in serve(without)
