"""Rows of text as aligned columns."""

from collections.abc import Collection, Iterable, Sequence


def lay_out(rows: Iterable[Sequence[str]], *, left: Collection[int] = (), indent: str = "") -> str:
    """Gives a line for each row, columns as wide as they need to be and two spaces apart.

    Args:
        rows: of equal length.
        left: columns whose cells stand to the left; the others, numbers, to the right.
        indent: what each line begins with.
    """
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)
