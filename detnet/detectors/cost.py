"""What a detector costs: the levels it takes, multiply-adds and parameters, without computing."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detnet.backbones.cost import count_macs, count_params
from detnet.detectors.build import build

IMAGE_SIZE = (800, 1333)
_DIVISIBLE = 32  # what images are padded to


def describe(
    name: str,
    *,
    backbone: str,
    num_classes: int = 81,
    image_size: tuple[int, int] = IMAGE_SIZE,
    **options: Any,
) -> dict[str, Any]:
    """Tells a detector's cost for one image, as `detnet detectors --json` prints it.

    Counted are convolutions and matrix products of backbone, neck and dense heads on the image
    padded to multiples of 32, and of region heads on the default number of proposals, masks and
    keypoints on that of detections. Pooling of regions and suppression are not counted. Nothing
    is computed: weights and features live on torch's meta device.

    Args:
        name: of `DETECTORS`.
        backbone: see `build_backbone`.
        num_classes: background counted; 81 is COCO's.
        image_size: height and width, pixels.
        options: as `create` takes them.

    Returns:
        `levels`, the names of the backbone's that are taken, `outputs`, name and stride of those
        that heads work on, `macs`, `params`, `regions` and `padded_size`.

    Raises:
        InputError: the backbone lacks a level.
    """
    with _WeightsOnMeta():
        model: Any = build(name, backbone=backbone, num_classes=num_classes, **options)
    model.eval()
    body = model.backbone
    padded = [-(-side // _DIVISIBLE) * _DIVISIBLE for side in image_size]
    images = torch.empty(1, 3, *padded, device="meta")
    taken = _Taken.listen(body.backbone)
    regions = model.rpn.post_nms_top_n() if hasattr(model, "rpn") else 0
    macs = count_macs(lambda: _run(model, images, regions))
    known = [info.name for info in body.backbone.feature_info]
    levels = getattr(body, "levels", None) or [level for level in known if level in taken]
    return {
        "levels": list(levels),
        "outputs": [{"name": info.name, "stride": info.stride} for info in body.feature_info],
        "macs": macs,
        "params": count_params(model),
        "regions": regions,
        "padded_size": padded,
    }


class _WeightsOnMeta(TorchFunctionMode):
    """Weights have no memory and cost nothing to draw; tables of anchors stay real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


class _Taken(dict[str, Tensor]):
    """A backbone's levels that notes which are asked for."""

    seen: set[str]

    @classmethod
    def listen(cls, backbone: nn.Module) -> set[str]:
        """Gives a set that will hold the levels asked for."""
        seen: set[str] = set()

        def wrap(module: nn.Module, arguments: Any, features: dict[str, Tensor]) -> "_Taken":
            taken = cls(features)
            taken.seen = seen
            return taken

        backbone.register_forward_hook(wrap)
        return seen

    def __getitem__(self, key: str) -> Tensor:
        self.seen.add(key)
        return super().__getitem__(key)


def _run(model: Any, images: Tensor, regions: int) -> None:
    """Goes through all layers, with made-up regions for those that the image would give."""
    features = model.backbone(images)
    if not hasattr(model, "rpn"):
        levels = list(features.values())
        # A detector on one level takes it as it is.
        model.head(levels if hasattr(model, "anchor_generator") else levels[0])
        return
    first = getattr(model.rpn, "level", None)
    model.rpn.head([features[first]] if first else list(features.values()))
    heads, shapes = model.roi_heads, [(images.shape[-2], images.shape[-1])]
    for pooler, count in _poolers(heads, regions):
        _fake_pooling(pooler, count)
    boxes = images.new_empty(heads.detections_per_img, 4)
    found = ([boxes], [boxes[:, 0]], [boxes[:, 0].long()])
    heads.postprocess_detections = lambda *_: found
    heads._detect(features, [images.new_empty(regions, 4)], shapes)
    if heads.has_mask():
        heads._mask_logits(features, [boxes], shapes)
    if heads.has_keypoint():
        heads._keypoint_logits(features, [boxes], shapes)


def _poolers(heads: Any, regions: int) -> list[tuple[Any, int]]:
    poolers = [(heads.box_roi_pool, regions)]
    if heads.has_mask():
        poolers.append((heads.mask_roi_pool, heads.detections_per_img))
    if heads.has_keypoint():
        poolers.append((heads.keypoint_roi_pool, heads.detections_per_img))
    return poolers


def _fake_pooling(pooler: Any, count: int) -> None:
    """Gives regions of the right size, since which level each is from cannot be known here."""

    def forward(features: dict[str, Tensor], boxes: Any, shapes: Any) -> Tensor:
        level = features[pooler.featmap_names[0]]
        return level.new_empty(count, level.shape[1], *pooler.output_size)

    def vote(maps: Tensor, boxes: Any) -> Tensor:
        return maps.new_empty(count, maps.shape[1] // pooler.bins**2)

    pooler.forward = forward
    if hasattr(pooler, "vote"):  # R-FCN looks regions up instead
        pooler.vote = vote
