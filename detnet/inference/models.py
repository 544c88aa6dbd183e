"""What a MODEL argument stands for: a run folder, a .safetensors file, or an exported folder.

import detnet
model = detnet.load("runs/a")
model.predict("image.jpg").draw("image.jpg").save("found.png")
"""

from pathlib import Path
from typing import TYPE_CHECKING

from detnet.errors import InputError
from detnet.inference.engines.record import is_export

if TYPE_CHECKING:
    import torch

    from detnet.inference.augmentation import PredictionOptions
    from detnet.inference.engines.predictor import EnginePredictor
    from detnet.inference.predictor import Predictor

    AnyPredictor = Predictor | EnginePredictor

# In a run folder: the model that scored best, else the one the training ended with.
MODEL_FILES = ("best.safetensors", "model.safetensors")


def load(
    path: str | Path,
    *,
    score_threshold: float = 0.5,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    options: "PredictionOptions | None" = None,
) -> "AnyPredictor":
    """Loads a trained detector, running no code of the file's.

    Args:
        path: a run folder (its best model, else its last), a `.safetensors` file, or an exported
            folder, which runs in its own runtime and imports no torch.
        score_threshold: see `Predictor`.
        device: see `Predictor`; an export runs on the CPU.
        dtype: see `Predictor`; an export has its own precision.
        options: see `Predictor`; an export takes none.

    Raises:
        InputError: no model there, a file that is cut, changed or a pickle, or something is asked
            of an export that it cannot do.
    """
    if not is_export(path):
        from detnet.inference.predictor import load_predictor

        return load_predictor(
            find_model(path),
            score_threshold=score_threshold,
            device=device,
            dtype=dtype,
            options=options,
        )
    from detnet.inference.engines.predictor import load_export, refuse_options

    refuse_options(options, path)
    if dtype is not None:
        raise InputError(f"{path}: is an export, whose precision is its own; leave dtype out")
    return load_export(Path(path), score_threshold=score_threshold, device=device)


def find_model(path: str | Path) -> Path:
    """The model file that a MODEL argument stands for: itself, or the best one of a run folder.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if is_export(path):
        raise InputError(
            f"{path}: is an export, and its layers and weights are no longer torch's; give the "
            "run folder or .safetensors file that it was made of"
        )
    if path.is_dir():
        for name in MODEL_FILES:
            if (path / name).is_file():
                return path / name
        hint = ""
        if (path / "last.ckpt").is_file():
            hint = f": not evaluated yet; go on with `--resume {path}`"
        raise InputError(f"{path}: holds no model ({' or '.join(MODEL_FILES)}){hint}")
    if not path.is_file():
        raise InputError(f"{path}: no such run folder or model file")
    return path
