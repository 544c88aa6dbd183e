"""Formats of data sets; which one a folder is in is asked in this order."""

from detnet.tables import NameTable

FORMATS = NameTable(
    "dataset format",
    {
        "coco": "detnet.data.formats.coco:CocoFolder",
        "roboflow": "detnet.data.formats.coco:RoboflowFolder",
        "voc": "detnet.data.formats.voc:VocFolder",
        "yolo": "detnet.data.formats.yolo:YoloFolder",
    },
)
