"""The weights a run begins from: found by a path or on a hub, opened, loaded into its network."""

import re
from pathlib import Path
from types import ModuleType

from torch import nn

from detnet.backbones.files import ClassifierInfo
from detnet.backbones.weights.loading import LoadReport, load_into_classifier
from detnet.backbones.weights.pretrained import PretrainedWeights
from detnet.detectors.base import Detector
from detnet.detectors.weights import load_into_detector, open_weights
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import sha256_of
from detnet.inference.models import find_model
from detnet.text import first_line
from detnet.training.settings import HUB, SHA256

MODEL_FILE = "model.safetensors"
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+?))?(?::(?P<file>.+))?")


def open_named(text: str) -> PretrainedWeights:
    """Opens what a WEIGHTS argument stands for.

    Raises:
        InputError: see `find_weights` and `open_weights`.
    """
    return open_weights(find_weights(text), place=text.partition(SHA256)[0])


def load_detector_weights(model: Detector, source: PretrainedWeights) -> list[str]:
    """Loads what fits into a detector; class layers stay fresh where categories differ.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    return report(source, load_into_detector(model, source))


def load_classifier_weights(
    model: nn.Module, info: ClassifierInfo, source: PretrainedWeights
) -> list[str]:
    """Loads what fits into a classifier; its last layer stays fresh for other classes.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    same = tuple(source.header.get("classes", ())) == info.classes
    done = load_into_classifier(model, source, same_classes=same, name=info.backbone)
    return report(source, done)


def report(source: PretrainedWeights, done: LoadReport) -> list[str]:
    """Says in a few lines what an import filled."""
    head = f"weights: {len(done.loaded)} tensors from {source.place} ({source.title})"
    if not (done.fresh or done.left_over or done.mismatched):
        return [f"{head}: all there are"]
    return [head, *(f"  {line}" for line in done.lines())]


def find_weights(text: str) -> Path:
    """The local file that a WEIGHTS argument stands for.

    Args:
        text: a file; a run folder, for its best model; or `hub:OWNER/NAME[@REVISION][:FILE]`, which
            is fetched unless it has been before. `#sha256=HEX` at the end names what it must be.

    Raises:
        InputError: there is none, it cannot be fetched, its sha256 is another, or it is a run's
            checkpoint, which says too little of its network.
    """
    name, mark, digest = text.partition(SHA256)
    if mark and not _HEX.fullmatch(digest):
        raise InputError(f"{text}: #sha256= takes 64 hexadecimal digits")
    path = pull(name) if name.startswith(HUB) else find_model(name)
    run = RunFolder(path.parent)
    if path.name == run.last.name and run.config.is_file():
        raise InputError(
            f"{path}: is a run's state, which tells neither how its images were normalised nor its "
            f"averaged weights; give the run's folder, {run.path}"
        )
    if mark:
        found = sha256_of(path)
        if found != digest.lower():
            raise InputError(f"{path}: its sha256 is {found}, not {digest.lower()}")
    return path


def pull(name: str) -> Path:
    """Fetches a file of a hub's repository, or finds it where it was kept before.

    Args:
        name: `hub:OWNER/NAME`, `hub:OWNER/NAME@REVISION`, `hub:OWNER/NAME:FILE`; without FILE the
            repository's `model.safetensors`.

    Raises:
        InputError: no such name or file, or the hub cannot be reached.
    """
    match = _NAME.fullmatch(name.removeprefix(HUB))
    if match is None:
        raise InputError(f"{name}: write hub:OWNER/NAME, or hub:OWNER/NAME:FILE")
    hub = _library(name)
    file = match["file"] or MODEL_FILE
    try:
        return Path(hub.hf_hub_download(match["repo"], file, revision=match["revision"]))
    except _refusals(hub) as error:
        raise InputError(f"{name}: {first_line(error)}; a local path needs no hub") from error


def push(path: Path, name: str, *, private: bool = False) -> str:
    """Uploads a model file of ours, as `model.safetensors`, to a repository, made if need be.

    Args:
        path: the model file.
        name: `OWNER/NAME`.
        private: whether a new repository is the owner's alone.

    Returns:
        where it is to be seen.

    Raises:
        InputError: the name is none, or the hub refuses.
    """
    match = _NAME.fullmatch(name.removeprefix(HUB))
    if match is None or match["file"] or match["revision"]:
        raise InputError(f"{name}: write OWNER/NAME")
    hub = _library(name)
    try:
        hub.create_repo(match["repo"], private=private, exist_ok=True)
        done = hub.upload_file(
            path_or_fileobj=str(path), path_in_repo=MODEL_FILE, repo_id=match["repo"]
        )
    except _refusals(hub) as error:
        raise InputError(f"{name}: {first_line(error)}") from error
    return str(getattr(done, "commit_url", done))


def _refusals(hub: ModuleType) -> tuple[type[BaseException], ...]:
    """What is raised where the hub refuses, or cannot be reached.

    Its own error is derived from those of the HTTP library that its version uses, of which only
    requests' are `OSError` throughout.
    """
    return OSError, ValueError, *hub.errors.HfHubHTTPError.__bases__


def _library(name: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise InputError(
            f"{name}: huggingface-hub is not installed: pip install 'detnet[hub]', or give a path"
        ) from error
    huggingface_hub.utils.logging.set_verbosity_error()  # it tells of every attempt
    return huggingface_hub
