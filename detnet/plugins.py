"""Modules of the user's own that add names to the tables, as `--plugin MODULE` names them.

A plugin registers a backbone, a detector, a data set format, a space or a metric when it is
imported: `BACKBONES.register("mine", build)`. It runs code, so the user alone names it, on the
command line or in settings: no model file and no run folder that is only read brings one along.
"""

import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from detnet.errors import InputError

_loaded: dict[str, None] = {}  # as recorded, in order


def load_plugins(names: Iterable[str]) -> list[str]:
    """Imports plugins, each once in a process.

    Args:
        names: MODULE, found in the current folder or among what is installed, or FOLDER:MODULE,
            as this function returns them.

    Returns:
        the same by which another process finds them from anywhere: FOLDER:MODULE for what is not
        installed.

    Raises:
        InputError: there is no such module, or it fails when it is imported.
    """
    found = [_load(name) for name in names]
    _loaded.update(dict.fromkeys(found))
    return found


def loaded_plugins() -> tuple[str, ...]:
    """What this process has imported by `load_plugins`, for processes that it starts."""
    return tuple(_loaded)


def _load(text: str) -> str:
    folder, _, module = text.rpartition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"plugin {text!r}: name a module, as my_backbone or my_package.backbone")
    place = str(Path(folder).resolve()) if folder else str(Path.cwd())
    if place not in sys.path:
        sys.path.insert(0, place)  # where `python -m` has the current folder
    importlib.invalidate_caches()
    try:
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(name=module)
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _leads_to(error.name, module):
            name = module.removesuffix(".py")
            hint = f"; a module is named without .py: {name}" if name != module else ""
            raise InputError(
                f"plugin {module}: no such module in {place} or among what is installed{hint}"
            ) from None
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(
            f"plugin {module}: cannot be imported: {type(error).__name__}: {reason}"
        ) from error
    root = _folder_of(imported.__file__, module)
    if folder and root is not None and root != Path(place):
        raise InputError(f"plugin {text}: there is another {module} in {root}")
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")]
    if root is None or any(root.is_relative_to(Path(path).resolve()) for path in installed):
        return module
    return f"{root}:{module}"


def _leads_to(missing: str | None, module: str) -> bool:
    """Whether what was not found is the module itself or a package that it lies in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _folder_of(file: str | None, module: str) -> Path | None:
    """The folder from which a module is imported by its full name; None for what has no file."""
    if file is None:
        return None
    path = Path(file).resolve()
    depth = module.count(".") + (path.name == "__init__.py")
    return path.parents[depth]
