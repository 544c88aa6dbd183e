"""The command line's frame: help without torch, mistakes in one line, exit codes."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import detnet
from detnet.cli import COMMANDS, main, summary_of
from detnet.cli.__main__ import wait_briefly
from detnet.errors import InputError

HEAVY = ("torch", "torchvision", "numpy", "matplotlib", "hotcoco", "optuna", "PIL")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def install_command(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Makes a real command module `trial` of one function."""
    module = ModuleType("detnet_trial_command", "A trial.")
    module.add_arguments = lambda parser: parser.add_argument("--level", choices=["low", "high"])  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "detnet_trial_command", module)
    monkeypatch.setitem(COMMANDS, "trial", "detnet_trial_command")


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        "import sys\nfrom detnet.cli import main\n"
        f"code = main({argv!r})\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    done = run_python(code)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"
    assert "usage: detnet" in done.stdout


def test_overview_lists_every_command_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, module in COMMANDS.items():
        assert summary_of(module), f"{module} has no docstring"
        assert any(line.split() == [name, *summary_of(module).split()] for line in lines)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detnet {detnet.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["inof"], "unknown command 'inof' (did you mean 'info'?)"),
        (["xyzzy"], "unknown command 'xyzzy'; see"),
        (["--versoin"], "unknown option '--versoin' (did you mean '--version'?)"),
        (["info", "detnet59", "--imagesize=3"], "'--imagesize' (did you mean '--image-size'?)"),
        (["info", "detnet59", "more"], "unexpected argument 'more'"),
        (["info", "detnet95"], "did you mean 'detnet59'?"),
        (["info", "detnet59", "--width", "wide"], "invalid float value: 'wide'"),
        (["info"], "required: NAME; see `detnet info --help`"),
        (["trial", "--level", "hihg"], "unknown 'hihg' (did you mean 'high'?); one of low, high"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_command(monkeypatch, lambda args: 0)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("detnet: error: ") and err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("a.json: cut\n  after line 3"), "a.json: cut after line 3"),
        (FileNotFoundError(2, "No such file or directory", "gone.jpg"), "gone.jpg: No such file"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("torchvision could not read"), "torchvision could not read"),
    ],
)
def test_errors_of_users_and_disks_end_with_2(
    error: Exception,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    install_command(monkeypatch, run)
    assert main(["trial"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"detnet: error: {said}") and err.count("\n") == 1


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyError("a defect")

    install_command(monkeypatch, run)
    with pytest.raises(KeyError, match="a defect"):
        main(["trial"])


def test_ctrl_c_ends_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    install_command(monkeypatch, run)
    assert main(["trial"]) == 130
    assert capsys.readouterr().err == "detnet: interrupted\n"


def test_a_commands_exit_code_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    install_command(monkeypatch, lambda args: 1 if args.level == "low" else 0)
    assert main(["trial", "--level", "low"]) == 1
    assert main(["trial"]) == 0


def test_a_closed_pipe_is_quiet() -> None:
    reader = "import sys; sys.stdin.close()"
    writer = (
        "import sys, types, detnet.cli as cli\n"
        "m = types.ModuleType('noisy')\n"
        "m.add_arguments = lambda parser: None\n"
        "m.run = lambda args: [print('x' * 100) for _ in range(10000)] and 0\n"
        "sys.modules['noisy'] = m; cli.COMMANDS['noisy'] = 'noisy'\n"
        "sys.exit(cli.main(['noisy']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as noisy:
        subprocess.run([sys.executable, "-c", reader], stdin=noisy.stdout, check=True)
        assert noisy.stdout is not None and noisy.stderr is not None
        noisy.stdout.close()
        assert noisy.stderr.read() == b""
        assert noisy.wait() == 141


def test_module_entry_points(tmp_path: Path) -> None:
    for module in ("detnet", "detnet.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "info", "nothing"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("detnet: error: unknown backbone 'nothing'")


def test_info_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "detnet59", "--json", "--image-size", "64", "96"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [level["stride"] for level in facts["features"]] == [4, 8, 16, 16, 16]
    assert facts["params"] > facts["backbone_params"] > 17_000_000


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, {"GOMP_SPINCOUNT": "3000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_how(
    given: dict[str, str], left: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        if name in given:
            monkeypatch.setenv(name, given[name])
    wait_briefly()
    assert {name: os.environ[name] for name in names if name in os.environ} == left


def test_who_waits_for_a_lost_process_ends_with_one_line() -> None:
    """From whatever thread, while the main one waits for ever."""
    code = (
        "import threading, time; from detnet.cli.__main__ import give_up\n"
        "threading.Thread(target=give_up, args=('rank 3 has ended',)).start(); time.sleep(60)"
    )
    done = run_python(code)
    assert (done.returncode, done.stderr) == (2, "detnet: error: rank 3 has ended\n")


def test_the_program_says_how_to_wait_before_torch_is_there() -> None:
    """OpenMP asks once, when it is loaded."""
    code = (
        "import os, sys\nfrom detnet.cli import __main__ as program\n"
        "program.main = lambda: print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT']) or 0\n"
        "program.program()"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "False 3000\n"), done.stderr


def test_names_of_any_bytes_are_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    code = f"from detnet.cli import main; main(); import os; print(*os.listdir({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert done.stdout.splitlines()[-1] == rb"caf\udce9"
