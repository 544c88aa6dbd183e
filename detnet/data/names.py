"""Names of files that stand in data: whether they stay where they belong."""

import os
from pathlib import PurePath


def leaves(name: str) -> bool:
    """Whether a name leads out of the folder it starts from, by itself.

    Absolute names do, and those with ".." anywhere: behind a symbolic link even "a/../b" is
    elsewhere. A link below the folder is its owner's doing and may point where it likes.
    """
    if "\0" in name:
        return True  # no name at all
    if ".." not in name and name[:1] not in ("/", "\\") and os.name == "posix":
        return False  # most names, and there may be millions
    path = PurePath(name)
    return bool(path.anchor) or ".." in path.parts
