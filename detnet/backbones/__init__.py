"""Backbones: networks as tables, found by their published names in `BACKBONES`."""

from detnet.tables import NameTable

BACKBONES = NameTable(
    "backbone",
    {
        "resnet50": "detnet.backbones.resnet:resnet50",
        "resnet101": "detnet.backbones.resnet:resnet101",
        "resnet50_dilated": "detnet.backbones.resnet:resnet50_dilated",
        "detnet59": "detnet.backbones.detnet:detnet59",
        "detnet59_noproj": "detnet.backbones.detnet:detnet59_noproj",
        "detnet110": "detnet.backbones.detnet:detnet110",
    },
)

__all__ = ["BACKBONES"]
