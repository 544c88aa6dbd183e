"""Ten minutes on a GPU: what holds there, and how fast it is, part by part, into one file.

    python benchmarks/gpu.py --output build/gpu        (or: make gpu PYTHON=python3)
    python benchmarks/gpu.py --only steps train_step
    python benchmarks/gpu.py --tiny --plugin tests.pretended.plugin

Runs with the Python it is given: torch, torchvision, numpy, pillow and yaml are enough; what else
is missing is told in one line, and the parts that need it are left out. No set-up, no network. Each
part has a process and a time of its own, and leaves OUTPUT/NAME.json; begun again, the parts that
are there are passed over (`--again` takes them again). At the end all stand in OUTPUT/figures.json
and, for people, in OUTPUT/figures.txt. The exit code is 1 where something did not hold.
"""

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# In the order in which they are worth having, with the seconds of ten minutes that each may take.
PARTS = {
    "machine": 30,
    "tests": 60,
    "steps": 90,
    "resume": 40,
    "ddp": 50,
    "train_step": 110,
    "inference": 80,
    "roi_align": 30,
    "compile": 90,
}
_SPEED = ("train_step", "inference", "roi_align")
_HOMES = {"ddp": "ranks", **dict.fromkeys(_SPEED, "speed")}  # else checks
_MODULES = {"pillow": "PIL", "pyyaml": "yaml"}  # called otherwise than their packages
_NO_GPU = "torch finds no GPU on this machine"
_DONE = ("held", "failed", "left out")


def main() -> None:
    options = _options()
    for place in (ROOT, ROOT / "benchmarks"):
        sys.path.insert(0, str(place))
    if options.part is not None:
        _run_part(options)
        return
    if options.dry_run:
        print("\n".join(f"{name}: {PARTS[name]} s at most" for name in options.only))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for name in options.only:
        file = options.output / f"{name}.json"
        if not options.again and file.is_file() and _read(file)["state"] in _DONE:
            print(f"{name}: kept from before ({_read(file)['state']})")
            continue
        left = 60 * options.minutes - (time.monotonic() - began)
        bound = PARTS[name] * options.minutes / 10
        record = _in_a_process(name, file, min(bound, left), options)
        if record["lines"] == [_NO_GPU]:
            file.unlink(missing_ok=True)
            sys.exit(f"gpu: {_NO_GPU}")
        file.write_text(json.dumps(record, indent=1) + "\n")
        print(_told(name, record), flush=True)
        _write_figures(options.output)
    print(f"written: {options.output / 'figures.txt'}")
    states = [record["state"] for record in _write_figures(options.output).values()]
    sys.exit("failed" in states or "cut" in states)


def _write_figures(folder: Path) -> dict[str, Any]:
    """All parts that are there in one file, and for people."""
    files = {name: folder / f"{name}.json" for name in PARTS}
    records = {name: _read(file) for name, file in files.items() if file.is_file()}
    (folder / "figures.json").write_text(json.dumps(records, indent=1) + "\n")
    text = "\n".join(_told(name, record) for name, record in records.items())
    (folder / "figures.txt").write_text(text + "\n")
    return records


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="%(default)s")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts")
    parser.add_argument("--again", action="store_true", help="also the parts that are there")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts; %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="only tell the parts")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--plugin", help="a module that brings a device along")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(
    name: str, file: Path, seconds: float, options: argparse.Namespace
) -> dict[str, Any]:
    """What a part found, whatever became of its process."""
    if seconds < 5:
        return {"state": "cut", "lines": ["no time was left for it; run again to go on"]}
    command = [sys.executable, __file__, "--part", name, "--output", str(options.output)]
    command += ["--tiny"] if options.tiny else []
    command += ["--plugin", options.plugin] if options.plugin else []
    # Of torch's ways of being repeatable this one is read when CUDA is begun.
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    began = time.monotonic()
    file.unlink(missing_ok=True)
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipe)
    try:
        text = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        return {"state": "cut", "lines": [f"not done within {seconds:.0f} s"]}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        process.wait()
    if not file.is_file():
        last = text.strip().splitlines()[-1:]
        return {"state": "failed", "lines": [*last, f"exit code {process.returncode}"]}
    return {**_read(file), "seconds": round(time.monotonic() - began, 1)}


def _run_part(options: argparse.Namespace) -> None:
    """A part's own process: leaves its file, also where it fails."""
    if options.plugin:
        importlib.import_module(options.plugin)
    from gpu_parts.place import LeftOut, Place

    from detnet.engine.machine import accelerator

    device = accelerator()
    if device is None:
        record: dict[str, Any] = {"state": "failed", "lines": [_NO_GPU]}
    else:
        try:
            place = Place(device, tiny=options.tiny, plugin=options.plugin)
            part = importlib.import_module(f"gpu_parts.{_HOMES.get(options.part, 'checks')}")
            found = getattr(part, f"part_{options.part}")(place)
            record = {"state": "held" if found.held else "failed", **vars(found)}
        except LeftOut as reason:
            record = {"state": "left out", "lines": [str(reason)]}
        except ModuleNotFoundError as error:
            record = {"state": "left out", "lines": [f"needs {error.name}, which is missing here"]}
        except Exception as error:
            first = (str(error).strip() or "no reason given").splitlines()[0][:300]
            record = {"state": "failed", "lines": [f"{type(error).__name__}: {first}"]}
    file = options.output / f"{options.part}.json"
    file.write_text(json.dumps(record, indent=1) + "\n")


def missing_packages() -> list[str]:
    """Those of the package's requirements that cannot be imported here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [requirement.split(">")[0].split("=")[0] for requirement in project["dependencies"]]
    return [name for name in names if not _is_here(_MODULES.get(name, name.replace("-", "_")))]


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _read(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def _told(name: str, record: dict[str, Any]) -> str:
    took = f", {record['seconds']:.0f} s" if "seconds" in record else ""
    return "\n".join([f"{name}: {record['state']}{took}", *(f"  {x}" for x in record["lines"])])


if __name__ == "__main__":
    main()
