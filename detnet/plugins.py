"""Modules of the user's own that add names to the tables, as `--plugin MODULE` names them.

A plugin registers a backbone, a detector, a data set format, a space or a metric when it is
imported: `BACKBONES.register("mine", build)`. It runs code, so the user alone names it, on the
command line or in settings: no model file and no folder of a run, a search or a campaign that is
only read brings one along.
"""

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from detnet.errors import InputError

_loaded: dict[str, None] = {}  # as recorded, in order


def load_plugins(names: Iterable[str], *, beside: Path | None = None) -> list[str]:
    """Imports plugins, each once in a process.

    Args:
        names: MODULE, found in the current folder or among what is installed; a file FOLDER/X.py;
            or FOLDER:MODULE, as this function returns them.
        beside: the folder of the file that names them, in which they are looked for first.

    Returns:
        the same by which another process finds them from anywhere: FOLDER:MODULE for what is not
        installed. This is what belongs into settings.

    Raises:
        InputError: there is no such module, or it fails when it is imported.
    """
    found = [_load(name, beside) for name in names]
    _loaded.update(dict.fromkeys(found))
    return found


def loaded_plugins() -> tuple[str, ...]:
    """What this process has imported by `load_plugins`, for processes that it starts."""
    return tuple(_loaded)


@contextmanager
def explaining_plugins(names: Iterable[str], file: Path) -> Iterator[None]:
    """Says in an InputError which plugins a file names, where these are not imported.

    Args:
        file: the one that names them.

    Raises:
        InputError: as within, with the file before it.
    """
    try:
        yield
    except InputError as error:
        options = " ".join(f"--plugin {name}" for name in names if name not in _loaded)
        named = f"; it names {options}" if options else ""
        raise InputError(f"{file}: {error}{named}") from error


def _load(text: str, beside: Path | None) -> str:
    folder, module = _parts(text)
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(
            f"plugin {text!r}: name a module, as my_backbone or my_package.backbone, or its file, "
            "as FOLDER/my_backbone.py; its name is of letters, digits and _"
        )
    bases = [Path.cwd()] if beside is None else [beside, Path.cwd()]
    places = list(dict.fromkeys((base / folder).resolve() for base in bases))
    place = next((each for each in places if _holds(each, module)), places[-1])
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))  # where `python -m` has the current folder
    importlib.invalidate_caches()
    try:
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(name=module)
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _leads_to(error.name, module):
            tried = " or ".join(map(str, places))
            if not folder:
                tried += " or among what is installed; name one elsewhere as FOLDER/X.py"
            raise InputError(f"plugin {module}: no such module in {tried}") from None
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(
            f"plugin {module}: cannot be imported: {_place_of(error)}"
            f"{type(error).__name__}: {reason}"
        ) from error
    root = _folder_of(imported.__file__, module)
    if root is not None and root != place and (folder or _holds(place, module)):
        raise InputError(f"plugin {text}: there is another {module} in {root}")
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")]
    if root is None or any(root.is_relative_to(Path(path).resolve()) for path in installed):
        return module
    return f"{root}:{module}"


def _parts(text: str) -> tuple[str, str]:
    """Folder and module of a plugin as it is named; "" for none."""
    if text.endswith(".py"):
        return str(Path(text).parent), Path(text).stem
    folder, _, module = text.rpartition(":")
    return folder, module


def _holds(folder: Path, module: str) -> bool:
    path = folder.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _place_of(error: BaseException) -> str:
    """The line of a module at which its import failed; "" where the error says it."""
    lines = [one for one in traceback.extract_tb(error.__traceback__) if one.name == "<module>"]
    return f"{lines[-1].filename}, line {lines[-1].lineno}: " if lines else ""


def _leads_to(missing: str | None, module: str) -> bool:
    """Whether what was not found is the module itself or a package that it lies in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _folder_of(file: str | None, module: str) -> Path | None:
    """The folder from which a module is imported by its full name; None for what has no file."""
    if file is None:
        return None
    path = Path(file).absolute()
    depth = module.count(".") + (path.name == "__init__.py")
    return path.parents[depth].resolve()
