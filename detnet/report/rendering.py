"""The pages' templates: one look for all of them, everything in the page itself.

A page extends `base.html.j2` and fills its blocks `title`, `heading`, `content` and, where it has
more to do than the common script, `script`. Everything that is put in is escaped.
"""

import re
from collections.abc import Mapping
from typing import Any

import jinja2

import detnet
from detnet import text


def render_template(template: str, /, **values: Any) -> str:
    """Fills a template of this package.

    Args:
        template: as "run.html.j2".
        values: what the template asks for, all of it.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("detnet.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters.update(
        percent=text.percent,
        interval=text.interval,
        duration=text.duration,
        points=points,
        points_between=text.points_between,
        minus=minus,
        signs=signs,
        sortable=lambda number: "" if number is None else f"{number:.6g}",
    )
    return templates.get_template(template).render(version=detnet.__version__, **values)


def minus(number: str) -> str:
    """Numbers with the sign that print has for less than nothing, a long dash for none."""
    return text.NOTHING if number == "-" else number.replace("-", "−")


def signs(told: str) -> str:
    """A text with print's sign before its numbers; names and paths keep their hyphens."""
    return re.sub(r"(?<![\w./-])-(?=\d)", "−", told)


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, with its sign."""
    return minus(text.points(difference))


def flat_settings(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Writes nested settings as (dotted name, text), without the passwords of URLs.

    Args:
        values: a mapping, and within the recursion whatever it holds.
        prefix: the dotted name so far.
    """
    if isinstance(values, Mapping) and values:
        return [
            pair
            for key, value in values.items()
            for pair in flat_settings(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if not prefix:
        return []
    if isinstance(values, list | tuple):
        separator = " " if prefix.endswith("command") else ", "
        written = separator.join(map(str, values)) or text.NOTHING
    else:
        written = text.NOTHING if values in (None, {}) else str(values)
    return [(prefix, text.hide_passwords(written))]
