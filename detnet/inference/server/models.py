"""Opens the MODEL that a server was told to serve, by the engine that prediction would choose."""

import logging
from pathlib import Path

from detnet.inference.engines.base import Engine
from detnet.inference.engines.predictor import open_engine
from detnet.inference.export.engine_choice import choose_engine

logger = logging.getLogger("detnet.server")
LEAST_SCORE = 0.05  # what the page asks for, and its slider then leaves out


def open_served(model: str, engine: str) -> Engine:
    """Opens a model with the engine that was chosen, or the fastest; of an export without torch.

    Raises:
        InputError: no model, or an engine that cannot run it.
    """
    choice = choose_engine(
        model,
        engine,
        device=None,
        precision="auto",
        least_score=LEAST_SCORE,
        tell=logger.info,
    )
    if choice.engine != "torch":
        return open_engine(Path(choice.model), name=choice.engine)
    from detnet.engine.machine import choose_precision
    from detnet.engine.processor import keep_freed_memory
    from detnet.inference.engines.torch import TorchEngine
    from detnet.inference.predictor import load_predictor, usable_device

    keep_freed_memory()
    device = usable_device(None)
    dtype = choose_precision("auto", device)
    return TorchEngine(load_predictor(choice.model, device=device, dtype=dtype))


def usual_score(engine: Engine) -> float:
    """The score threshold of who asks for none."""
    return max(0.5, engine.least_score)
