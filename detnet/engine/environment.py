"""Where a run's numbers come from: the command, the versions, the commit and the machine."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from detnet.engine.launch import world_size
from detnet.text import hide_passwords

_PACE = ("OMP_", "GOMP_", "MKL_NUM", "ONEDNN_MAX", "ATEN_CPU")  # settings of the pace begin so
_PACKAGES = ("detnet", "torch", "torchvision", "numpy", "hotcoco", "pycocotools")


def describe_environment() -> dict[str, Any]:
    """The command, versions, commit and machine; no passwords, no names of people or machines."""
    import torch  # here, since reading a run folder needs none of it

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *map(hide_passwords, sys.argv[1:])],
        "commit": _commit(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "variables": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(_PACE)
        },
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "processes": world_size(),
    }


def cpu_name() -> str:
    """Names this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit(folder: Path) -> str | None:
    """The commit this code is at, "+" behind it if files have changed since; None if unknown."""
    if not (folder.parents[1] / ".git").exists():
        return None
    git = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+"]
    git += ["--exclude", "*"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
