"""Imports what commands import on use, so that a forked process starts at once."""

import importlib
import os
import pkgutil

import torch

import detnet

# What libraries import on their first use, and takes the longest.
_LATE = (
    *("hotcoco", "pycocotools.cocoeval", "jsonargparse.typing", "numpy.ctypeslib"),
    *("optuna.storages", "sqlalchemy.dialects.sqlite", "alembic.command", "alembic.config"),
    *("alembic.migration", "alembic.script", "rich.progress", "PIL.TiffImagePlugin"),
)


def warm() -> None:
    """Imports all of the program, and starts no thread: a process with threads cannot be forked."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(detnet.__path__, "detnet."):
        if not module.name.endswith("__main__") and module.name != "detnet.timm":
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    if threads > 1:
        raise RuntimeError(f"{threads} threads run already: nothing could be forked")
