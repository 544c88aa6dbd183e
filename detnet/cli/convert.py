"""Turns a data set from Pascal VOC or YOLO into COCO format, and back.

    detnet convert VOC2007 --output data
    detnet convert data --to yolo --output yolo

The source's format is recognised: COCO or Roboflow layout, a folder with XML files (voc), or one
with data.yaml or labels/ (yolo). The result is a new folder; nothing is ever written over. Images
are hard links to the source's where the file system allows it: --copy makes them independent.
"""

import argparse
from pathlib import Path

_FORMATS = ("coco", "voc", "yolo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of the data set")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="to be made; must not exist"
    )
    parser.add_argument(
        "--from",
        dest="source_format",
        metavar="FORMAT",
        help="of SOURCE, if not recognised: coco, voc, yolo or a plugin's",
    )
    parser.add_argument(
        "--to", dest="target_format", choices=_FORMATS, default="coco", help="(default: coco)"
    )
    parser.add_argument("--copy", action="store_true", help="copy the images, make no hard links")
    parser.add_argument(
        "--keep-difficult",
        action="store_true",
        help="voc: difficult objects become ordinary ones, not crowds that are ignored",
    )
    parser.add_argument(
        "--zero-based",
        action="store_true",
        help="voc: coordinates count from 0 and end after the last pixel, against the standard",
    )
    parser.add_argument(
        "--outside-images",
        action="store_true",
        help="take images that SOURCE's files name outside of SOURCE, too",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what was read, left out and written."""
    from detnet.cli.progress import telling
    from detnet.data.formats.convert import convert

    with telling("images read") as tell:
        done = convert(
            args.source,
            args.output,
            source_format=args.source_format,
            target_format=args.target_format,
            link=not args.copy,
            keep_difficult=args.keep_difficult,
            zero_based=args.zero_based,
            outside=args.outside_images,
            progress=tell,
        )
    for split, counts in done.counts.items():
        print(f"{split}: {counts['images']:,} images, {counts['annotations']:,} annotations")
    for note in done.notes:
        print(f"note: {note}")
    print(f"{args.output}: {args.target_format} from {done.source_format}")
    return 0
