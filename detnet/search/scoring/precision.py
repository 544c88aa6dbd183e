"""The precision in which candidates are scored: one for all workers, or scores would differ."""

from dataclasses import replace

import torch

from detnet.engine.machine import choose_precision, precision_name
from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.study.storage import quiet, reaching, shown
from detnet.search.study.study import SearchStudy
from detnet.training.run_state import OnEvent

PRECISION = "precision"  # attribute of the study


def settle_precision(
    config: SearchConfig, study: SearchStudy, device: torch.device, on_event: OnEvent
) -> SearchConfig:
    """Puts the first worker's precision into the settings, whatever the device would choose.

    Args:
        on_event: called with a "note" where it would choose otherwise.

    Raises:
        InputError: the device has no instructions for it.
    """
    own = precision_name(choose_precision(config.precision, device))
    with quiet(), reaching(study.url):
        held = study.hold(PRECISION, own)
    try:
        choose_precision(held, device)
    except InputError as error:
        raise InputError(
            f"storage {shown(study.url)}: candidates are scored in {held} since the first worker, "
            f"and device {device} has no instructions for it; let other devices score, or search "
            "with precision: fp32 in a new run folder"
        ) from error
    if held != own:
        text = f"candidates are scored in {held} since the first worker, not in {own} as set here"
        on_event({"event": "note", "text": text})
    return replace(config, precision=held)
