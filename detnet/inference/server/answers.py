"""What a server answers with, and how it is described in its OpenAPI document."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from detnet.evaluation.results import to_results
from detnet.inference.engines.base import Engine
from detnet.inference.server.queue import SeenImage


class PredictQuery(BaseModel):
    """What `/predict` takes beside the images."""

    model_config = ConfigDict(extra="forbid")

    score_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Objects less sure than this are left out; 0.5, or the lowest that the model "
        "takes where that is higher.",
    )


class ImageAnswer(BaseModel):
    """An image as it was seen: upright."""

    id: int = Field(description="1 for the first image of the request, and so on.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")


class MaskAnswer(BaseModel):
    """A mask in COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="Height and width of the image.")
    counts: str


class ObjectAnswer(BaseModel):
    """One object, as a record of a COCO results file, and the name of its category."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height; pixels.")
    score: float
    segmentation: MaskAnswer | None = Field(None, description="From models with masks.")
    keypoints: list[float] | None = Field(
        None, description="x, y and 1 of each; from models with keypoints."
    )
    name: str


class PredictAnswer(BaseModel):
    """All objects of a request, image by image, the surest of each first."""

    images: list[ImageAnswer]
    results: list[ObjectAnswer]


class CategoryAnswer(BaseModel):
    """A category of the data set that the model was trained on."""

    id: int
    name: str


class ModelAnswer(BaseModel):
    """What runs here."""

    name: str
    engine: str
    precision: str
    runs_as: str = Field(description="What the machine really computes in, and with what.")
    categories: list[CategoryAnswer]
    least_score: float = Field(description="The lowest score threshold that it takes.")
    max_batch: int
    max_body: int = Field(description="Bytes of a request.")
    max_images: int = Field(description="In a request.")
    max_pixels: int = Field(description="Of an image.")
    formats: list[str]
    version: str = Field(description="Of detnet.")


class StateAnswer(BaseModel):
    """How the server is."""

    status: str


class RefusedAnswer(BaseModel):
    """Why there is no other answer."""

    status: int = Field(description="HTTP's, once more.")
    reason: str


def predict_answer(seen: Sequence[SeenImage], engine: Engine) -> bytes:
    """Writes a `PredictAnswer` as JSON."""
    images = [
        {"id": number, "width": image.width, "height": image.height}
        for number, image in enumerate(seen, 1)
    ]
    results = [
        record for number, image in enumerate(seen, 1) for record in _records(image, number, engine)
    ]
    content = {"images": images, "results": results}
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _records(image: SeenImage, number: int, engine: Engine) -> list[dict[str, Any]]:
    own = engine.layout.of_label if engine.layout else None
    records = list(to_results([vars(image.found)], [number], engine.category_ids, own))
    for record, label in zip(records, image.found.labels.tolist(), strict=True):
        record["name"] = engine.class_names[label - 1]
    return records
