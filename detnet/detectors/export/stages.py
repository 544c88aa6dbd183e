"""Names the nodes of an exported graph by the stage that they belong to, for whoever times them."""

import ast
from typing import Any

# As `detnet bench` tells them apart in torch, in the order in which an image goes through them.
STAGES = ("resize", "backbone", "pyramid", "proposals", "heads", "post-processing")
_RESIZE, _BACKBONE, _PYRAMID, _PROPOSALS, _HEADS, _REST = STAGES
# By the part of the detector; the first that fits.
_PARTS = (
    ("model.backbone.neck", _PYRAMID),
    ("model.backbone", _BACKBONE),
    ("model.rpn", _PROPOSALS),
    ("model.roi_heads", _HEADS),
    ("model.head", _HEADS),
)
_SCOPES, _TARGETS = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
_POOLING = "detnet.pool_regions.default"


def name_by_stage(graph: Any) -> None:
    """Puts a stage and a slash before the name of each node and of what it gives.

    Some runtimes name what they make of nodes after the one, some after the other. What lies in no
    part of the detector belongs to the last stage that it takes something of; after the heads, to
    post-processing.

    Args:
        graph: of torch's exporter, its nodes in an order in which they can be computed.
    """
    stages: dict[Any, str] = {}
    kept = set(graph.outputs)
    for number, node in enumerate(graph):
        before = [stages[each.producer()] for each in node.inputs if each and each.producer()]
        last = max(before, key=STAGES.index, default=_RESIZE)
        stages[node] = _own_stage(node) or (_REST if last == _HEADS else last)
        node.name = f"{stages[node]}/{node.name or node.op_type}_{number}"
        for value in node.outputs:
            if value not in kept:
                value.name = f"{stages[node]}/{value.name}"


def _own_stage(node: Any) -> str | None:
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))[:-1]  # the last is the node's
    for part, stage in _PARTS:
        if any(scope == part or scope.startswith(f"{part}.") for scope in scopes):
            return stage
    targets = ast.literal_eval(node.metadata_props.get(_TARGETS, "[]"))
    return _HEADS if targets[-1:] == [_POOLING] else None
