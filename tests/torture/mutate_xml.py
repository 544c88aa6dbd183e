"""Mutates XML: elements dropped, doubled, moved, renamed, odd text, entities, encodings, depth."""

import copy
import xml.etree.ElementTree as ElementTree

from tests.torture.mutate_bytes import Random, mutate_bytes, mutate_text, odd_number

_TEXTS = (
    *("", " ", "nan", "inf", "-1", "0", "1e9", "1e999", "0.5", "٣", "²", "Ⅷ", "9" * 400, "1 2"),
    *("cat", "../../x", "a/b", "x" * 3000, "é", "𝄞", "\u202e", "\u2028", "true", "0x10", "-0"),
)
_BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
    + "".join(f'<!ENTITY b{n} "{f"&b{n - 1 or str()};" * 10}">' for n in range(1, 9))
    + "]>"
)
_PROLOGUES = (
    '<?xml version="1.0" encoding="utf-16"?>',
    '<?xml version="1.0" encoding="utf-7"?>',
    '<?xml version="1.0" encoding="nonsense"?>',
    '<?xml version="1.0" encoding="latin-1"?>',
    '<?xml version="2.0"?>',
    '<!DOCTYPE annotation SYSTEM "file:///etc/hostname">',
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
    "\ufeff",
    "\n\n",
    "text before",
)


def mutate_xml(random: Random, data: bytes) -> bytes:
    """One to three changes of the tree, or of the text."""
    way = random.random()
    if way < 0.2:
        return mutate_bytes(random, data)
    if way < 0.35:
        return mutate_text(random, data)
    if way < 0.45:
        return _odd_document(random, data)
    root = ElementTree.fromstring(data)
    for _ in range(int(random.choice((1, 1, 2, 3)))):
        _change(random, root)
    return ElementTree.tostring(root, encoding="utf-8")


def _change(random: Random, root: ElementTree.Element) -> None:
    parents = [(node, child) for node in root.iter() for child in node]
    if not parents:
        root.text = _TEXTS[int(random.integers(len(_TEXTS)))]
        return
    parent, child = parents[int(random.integers(len(parents)))]
    other = parents[int(random.integers(len(parents)))][1]
    way = int(random.integers(10))
    if way == 0:
        parent.remove(child)
    elif way == 1:
        parent.append(copy.deepcopy(child))
    elif way == 2:
        child.tag = ("object", "name", "Xmin", "bndbox", "annotation")[int(random.integers(5))]
    elif way == 3:
        parent.insert(0, copy.deepcopy(other))
    elif way == 4:
        child.clear()
    elif way == 5:
        child.set("id", "1")
        child.tail = "stray"
    elif way == 6 and child.text:
        child.text = odd_number(random, child.text).replace("\x00", "")
    else:
        child.text = _TEXTS[int(random.integers(len(_TEXTS)))]


def _odd_document(random: Random, data: bytes) -> bytes:
    """Entities, encodings that are not those, and depth."""
    way = int(random.integers(len(_PROLOGUES) + 3))
    if way < len(_PROLOGUES):
        return _PROLOGUES[way].encode() + data
    if way == len(_PROLOGUES):
        return _BOMB.encode() + data.replace(b"cat", b"&b8;")
    deep = int(random.choice((500, 100_000)))
    tag = b"part" if way == len(_PROLOGUES) + 1 else b"object"
    hole = b"<%s>" % tag * deep + b"</%s>" % tag * deep
    return data.replace(b"</annotation>", hole + b"</annotation>")
