"""Weights by name: local paths need nothing, a hub's are pulled and pushed by huggingface-hub."""

import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.errors import InputError
from detnet.training.pretrained import find_weights, pull, push
from detnet.training.settings import HUB

SERVER = Path(__file__).parent / "hub_server.py"
needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="huggingface-hub is not installed: pip install 'detnet[hub]'",
)
Script = Callable[..., list[str]]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    options = {"width": 0.125}
    model = Classifier(BACKBONES["resnet50"](**options), 2)
    path = tmp_path / "model.safetensors"
    save_classifier(path, ClassifierInfo("resnet50", ("a", "b"), options), model.state_dict())
    return path


def test_a_local_file_and_its_sha256(model_file: Path) -> None:
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert find_weights(str(model_file)) == model_file
    assert find_weights(f"{model_file}#sha256={digest}") == model_file
    assert find_weights(f"{model_file.parent}#sha256={digest.upper()}") == model_file
    with pytest.raises(InputError, match=f"its sha256 is {digest}, not {'0' * 64}"):
        find_weights(f"{model_file}#sha256={'0' * 64}")
    with pytest.raises(InputError, match="takes 64 hexadecimal digits"):
        find_weights(f"{model_file}#sha256=abc")
    with pytest.raises(InputError, match="no such run folder or model file"):
        find_weights(str(model_file) + ".gone")


@pytest.mark.parametrize("name", ["hub:", "hub:name", "hub:a/b/c", "hub:a b/c"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="write hub:OWNER/NAME"):
        pull(name)


def test_a_run_s_checkpoint_is_not_taken_for_its_model(tmp_path: Path) -> None:
    torch.save({"stem.conv.weight": torch.zeros(1)}, tmp_path / "last.ckpt")
    assert find_weights(str(tmp_path / "last.ckpt")).name == "last.ckpt"  # of some other program
    (tmp_path / "config.yaml").write_text("data: a\n")
    with pytest.raises(InputError, match=rf"last.ckpt: .*; give the run's folder, {tmp_path}$"):
        find_weights(str(tmp_path / "last.ckpt"))


def test_without_the_extra(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"pip install 'detnet\[hub\]', or give a path"):
        find_weights("hub:me/detnet59")
    with pytest.raises(InputError, match=r"pip install 'detnet\[hub\]'"):
        push(model_file, "me/detnet59")
    assert find_weights(str(model_file)) == model_file
    assert HUB == "hub:"


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Script]:
    """Runs a script with our functions against a hub of this machine's own."""
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.stdout.readline().strip()}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_test",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }

    def run(script: str, **changes: str) -> list[str]:
        """Returns the lines that the script printed."""
        head = "import sys\nfrom pathlib import Path\nfrom detnet.training.pretrained import *\n"
        done = subprocess.run(
            [sys.executable, "-c", head + script],
            capture_output=True,
            text=True,
            env={**environment, **changes},
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    yield run
    server.kill()
    server.communicate()


@needs_hub
def test_push_where_no_hub_answers(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_api = importlib.import_module("huggingface_hub.hf_api")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as silent:  # it is bound and never listens
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(hub_api.api, "endpoint", address)
        with pytest.raises(InputError, match=r"^me/detnet59: .*refused") as caught:
            push(model_file, "me/detnet59")
    assert "\n" not in str(caught.value)


@pytest.mark.slow  # three processes that import torch
@needs_hub
def test_push_and_pull(model_file: Path, tmp_path: Path, python: Script) -> None:
    where, pulled, said = python(
        f"print(push(Path({str(model_file)!r}), 'me/small'))\n"
        "print(pull('hub:me/small'))\n"
        "try:\n    pull('hub:me/other')\nexcept InputError as error:\n    print(error)\n"
    )
    assert "me/small" in where
    stored = tmp_path / "hub" / "me" / "small" / "model.safetensors"
    assert stored.read_bytes() == model_file.read_bytes()
    assert Path(pulled).read_bytes() == model_file.read_bytes()
    assert said.startswith("hub:me/other: ")
    # Once fetched it is there without a network.
    assert python("print(find_weights('hub:me/small'))", HF_HUB_OFFLINE="1") == [pulled]
