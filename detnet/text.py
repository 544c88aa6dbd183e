"""Numbers and errors in words: percentages, times, sizes, aligned columns, messages of one line."""

import re
from collections.abc import Collection, Iterable, Sequence

NOTHING = "–"  # stands where there was nothing to average


def percent(value: float | None, digits: int = 1, *, none: str = NOTHING) -> str:
    """Gives a fraction as percent, without the sign: 0.4271 is "42.7"."""
    return none if value is None else f"{100 * value:.{digits}f}"


def points(
    difference: float | None, digits: int = 1, *, side: bool = False, none: str = NOTHING
) -> str:
    """Gives a difference of two fractions in percentage points, signed: 0.0214 is "+2.1".

    What rounds to nothing has no sign.

    Args:
        side: whether the side of zero counts: what would round to nothing has one digit more.
    """
    if difference is None:
        return none
    digits += side and abs(100 * difference) < 0.5 / 10**digits
    text = f"{100 * difference:+.{digits}f}"
    return text if float(text) else text[1:]


def interval(ends: Sequence[float | None] | None, digits: int = 1, *, none: str = NOTHING) -> str:
    """Gives two fractions as percentages, from what to what; none where an end is missing.

    Args:
        ends: low and high.
    """
    if ends is None or ends[0] is None or ends[1] is None:
        return none
    return f"{percent(ends[0], digits)} to {percent(ends[1], digits)}"


def points_between(
    ends: Sequence[float | None] | None, digits: int = 1, *, none: str = NOTHING
) -> str:
    """Gives two differences in points, "-2.6 to +0.4"; none where one is missing.

    An end that would round to nothing has one digit more: on which side it lies is the answer.

    Args:
        ends: low and high, as fractions.
    """
    if ends is None or ends[0] is None or ends[1] is None:
        return none
    return " to ".join(points(end, digits, side=True) for end in ends)


def duration(seconds: float | None, *, none: str = NOTHING) -> str:
    """Gives a time in its telling units: "0.4 s", "40 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    if seconds is None:
        return none
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def count(number: int, noun: str, *, none: str = "no") -> str:
    """Gives a number with its noun: "no files", "1 file", "1,200 files"."""
    return f"{f'{number:,}' if number else none} {noun}{'' if number == 1 else 's'}"


def amount(number: float | None, digits: int = 1) -> str:
    """Gives a large number with the letter of its thousands: 4_213_000 is "4.2 M"."""
    if number is None:
        return NOTHING
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size * (1 - 0.0005 / 10**digits):  # never "1000.0 k"
            return f"{number / size:.{digits}f} {letter}"
    return f"{number:g}"


def gibibytes(number: float) -> str:
    """Gives an amount of memory in the unit of devices: 5_690_831_667 bytes are "5.3 GiB"."""
    return f"{number / 2**30:.1f} GiB"


def hide_passwords(text: str) -> str:
    """Takes the passwords out of URLs: "postgresql://me:***@host/name"."""
    return re.sub(r"(://[^/:@\s]*:)\S*@|([?&]password=)[^&\s]*", _hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}***"


def one_line(error: BaseException, longest: int | None = None) -> str:
    """Gives an error's message without line breaks, its kind where it has none.

    Args:
        longest: characters, an ellipsis last where some are missing.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if longest is None else shorten(text, longest)


def first_line(error: BaseException) -> str:
    """Gives the first line of an error's message; behind it torch has advice for programmers."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def shorten(text: str, width: int) -> str:
    """Cuts a text to `width` characters, an ellipsis last where some are missing."""
    return text if len(text) <= width else text[: width - 1] + "…"


def is_utf8(text: str) -> bool:
    """Tells whether a text can be written in UTF-8; names of files with other bytes cannot."""
    return re.search("[\ud800-\udfff]", text) is None


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


def markdown_row(cells: Iterable[str]) -> str:
    """Lays out a row of a Markdown table; a bar in a name does not end its cell."""
    whole = (" ".join(cell.splitlines()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(whole)} |"
