"""Any engine behind a predictor's methods; how exports are opened is in test_exported."""

import tracemalloc

import numpy as np

from detnet.coco.masks import encode_pixels
from detnet.inference.engines.base import Found
from detnet.inference.engines.predictor import EnginePredictor
from tests.inference.server.bright import BrightEngine


def test_masks_are_painted_for_who_asks_for_them() -> None:
    """Forty of 1.5 megapixels are 60 MB, the picture in floats is 18."""
    pixels = np.zeros((1000, 1500), bool)
    pixels[200:700, 300:900] = True
    found = Found(
        boxes=np.tile(np.float32([[300, 200, 900, 700]]), (40, 1)),
        labels=np.ones(40, np.int64),
        scores=np.full(40, 0.5, np.float32),
        masks=[encode_pixels(pixels)] * 40,
    )
    tracemalloc.start()
    prediction = EnginePredictor(BrightEngine()).to_prediction(found, pixels.shape)
    drawn = np.asarray(prediction.draw(np.zeros((1000, 1500, 3), np.uint8)))
    records = prediction.to_coco(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn[450, 600].any() and records[39]["segmentation"] == encode_pixels(pixels)
    assert peak < 55e6
    assert prediction.masks is not None and prediction.masks.dtype == bool
    assert prediction.masks.shape == (40, 1000, 1500) and (prediction.masks[39] == pixels).all()
    assert prediction.masks is prediction.masks
