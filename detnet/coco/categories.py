"""Which category of the data set is which class of the network: one mapping for all commands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detnet.errors import InputError


@dataclass(frozen=True)
class Categories:
    """Maps category ids, any integers in any order, to labels 1 … K; label 0 is background.

    Labels follow ascending ids, so the order of a file's list does not matter.

    Args:
        ids: the data set's own category ids, ascending.
        names: the name of each id.

    Raises:
        ValueError: ids that do not ascend, or another number of names.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} category ids but {len(self.names)} names")
        if any(a >= b for a, b in zip(self.ids, self.ids[1:], strict=False)):
            raise ValueError(f"category ids must ascend without repetition, got {self.ids}")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_json(cls, records: Iterable[Mapping[str, Any]]) -> "Categories":
        """Takes COCO's list of categories; keys other than id and name are ignored."""
        pairs = sorted((int(record["id"]), str(record["name"])) for record in records)
        return cls(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"id": number, "name": name} for number, name in zip(self.ids, self.names, strict=True)
        ]

    def require_same(self, other: "Categories", *, mine: str, theirs: str) -> None:
        """Refuses another set of categories, saying in one line what differs.

        Args:
            other: the set that must be equal, ids and names.
            mine: who has this set, for the message: "runs/a/model.safetensors".
            theirs: who has the other.

        Raises:
            InputError: ids or names differ.
        """
        if self == other:
            return
        raise InputError(
            f"the categories of {mine} and {theirs} differ: {self._difference(other, mine, theirs)}"
        )

    def _difference(self, other: "Categories", mine: str, theirs: str) -> str:
        ours = dict(zip(self.ids, self.names, strict=True))
        others = dict(zip(other.ids, other.names, strict=True))
        parts = []
        for who, lacking in ((mine, _lacking(ours, others)), (theirs, _lacking(others, ours))):
            if lacking:
                parts.append(f"only {who} has {_listed(lacking)}")
        renamed = [n for n in ours if n in others and ours[n] != others[n]]
        if renamed:
            first = renamed[0]
            parts.append(
                f"id {first} is {ours[first]!r} in {mine} but {others[first]!r} in {theirs}"
                + (f" (+{len(renamed) - 1} more)" if len(renamed) > 1 else "")
            )
        return "; ".join(parts)


def _lacking(some: Mapping[int, str], others: Mapping[int, str]) -> list[str]:
    return [f"{number} {name!r}" for number, name in some.items() if number not in others]


def _listed(items: Sequence[object], most: int = 5) -> str:
    shown = ", ".join(str(item) for item in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
