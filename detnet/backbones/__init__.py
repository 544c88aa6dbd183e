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
        "detnasnet_300m": "detnet.backbones.detnas:detnasnet_300m",
        "detnasnet_300m_retinanet": "detnet.backbones.detnas:detnasnet_300m_retinanet",
        "detnasnet_voc_300m": "detnet.backbones.detnas:detnasnet_voc_300m",
        "detnasnet_voc_300m_retinanet": "detnet.backbones.detnas:detnasnet_voc_300m_retinanet",
        "detnasnet_1_3g": "detnet.backbones.detnas:detnasnet_1_3g",
        "detnasnet_3_8g": "detnet.backbones.detnas:detnasnet_3_8g",
        "shufflenetv2_20": "detnet.backbones.detnas:shufflenetv2_20",
        "shufflenetv2_40": "detnet.backbones.detnas:shufflenetv2_40",
    },
)

__all__ = ["BACKBONES"]
