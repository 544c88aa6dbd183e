"""`detnet serve` as a user starts it: mistakes in one line, a worker that comes back, an end."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

import detnet
from detnet.cli import main
from tests.inference.engines.tiny import tiny_export
from tests.inference.server.bright import colours
from tests.inference.server.conftest import TOKEN, file_of
from tests.inference.server.serving import Command, serving

PICTURE = file_of(colours())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no model, and none is read")
    return path


def predict(server: Command) -> int:
    answer = httpx.post(
        f"{server.address}/predict", files={"image": PICTURE}, timeout=30, trust_env=False
    )
    return answer.status_code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such run folder or model file"),
        (["{model}", "--port", "70000"], "--port must be 0 … 65535, got 70000"),
        (["{model}", "--host", "203.0.113.9"], "--host 203.0.113.9: no address of this machine"),
        (["{model}", "--max-batch", "0"], "--max-batch must be 1 or more, got 0"),
        (["{model}", "--max-pixels", "many"], "'many' is no number, such as 20e6"),
        (["{model}", "--token-file", "none"], "none: no such file"),
        (["{model}", "--engine", "open"], "unknown 'open' (did you mean 'openvino'?)"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *(word.format(model=model) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_port_in_use_is_said_before_the_model_is_loaded(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(model), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"detnet: error: port {port} of 127.0.0.1 is in use; choose another by --port, or 0 for "
        "any\n"
    )


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detnet", "serve", str(model), "--port", "0", "--engine", "torch"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert lines[0].startswith("detnet: loading ") and len(lines) == 2
    assert lines[1].startswith(f"detnet: error: {model}: ")


def test_a_killed_worker_is_replaced_and_the_end_is_orderly(tmp_path: Path, model: Path) -> None:
    with serving(model, tmp_path) as server:
        assert predict(server) == 200
        first = server.worker()
        assert server.kill_worker() < 5
        assert server.worker() != first and predict(server) == 200

        server.hold.touch()
        answers: list[int] = []
        clients = [
            threading.Thread(target=lambda: answers.append(predict(server))) for _ in range(4)
        ]
        for client in clients:
            client.start()
        server.wait_for(lambda: server.metric("detnet_queue_images") == 3)  # and the first runs
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda: "stopping" in server.errors.read_text())
        server.hold.unlink()
        for client in clients:
            client.join()
        assert server.process.wait(15) == 0
        assert time.monotonic() - start < 10
        assert answers == [200] * 4
        said = server.errors.read_text()
    assert "the worker ended by signal 9 (as where memory runs out; --max-batch 1" in said
    assert "take less); another is started now" in said
    assert "stopping: what was accepted is finished" in said and "Traceback" not in said


def test_ctrl_c_is_for_the_parent_which_ends_the_worker(tmp_path: Path, model: Path) -> None:
    token = tmp_path / "tokens"
    token.write_text(TOKEN)
    with serving(model, tmp_path, "--token-file", str(token)) as server:
        worker = server.worker()
        assert predict(server) == 401
        seen = Path(f"/proc/{worker}/cmdline").read_bytes()
        assert TOKEN.encode() not in seen + Path(f"/proc/{worker}/environ").read_bytes()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0
        assert not Path(f"/proc/{worker}").exists()
        assert "Traceback" not in server.errors.read_text()


def test_a_worker_does_not_outlive_its_parent(tmp_path: Path, model: Path) -> None:
    with serving(model, tmp_path) as server:
        worker = server.worker()
        server.process.kill()
        server.process.wait()
        for _ in range(200):
            if not Path(f"/proc/{worker}").exists():
                break
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()


def test_an_export_is_served_without_torch_and_without_telemetry(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "exported", "openvino", masks=True)
    with serving(folder, tmp_path, bright=False) as server:
        few, all_there_are = (
            httpx.post(
                f"{server.address}/predict",
                params={"score_threshold": score},
                files={"image": PICTURE},
                timeout=30,
                trust_env=False,
            )
            for score in (0.01, 0.1)
        )
        assert few.status_code == 422 and "below 0.05" in few.json()["reason"]
        found = all_there_are.json()["results"]
        assert [each.pop("name") for each in found] == ["dog", "cat"]
        assert found == detnet.load(folder, score_threshold=0.1).predict(colours()).to_coco(1)
        worker = server.worker()
        mapped = Path(f"/proc/{worker}/maps").read_text()
        assert "openvino" in mapped and "libtorch" not in mapped
        assert not Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        assert server.kill_worker() < 5


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys\nfrom detnet.inference.engines.openvino import keep_silent\nkeep_silent()\n"
        "import openvino, openvino.tools.ovc.telemetry_utils as told\n"
        "print(told.tm.__name__, 'multiprocessing' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "openvino.tools.ovc.telemetry_stub"
