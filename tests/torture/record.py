"""What came of each attack, and the table of them all."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CLEAR = "clear"  # one line and exit code 2, or a problem that `check` lists
ACCEPTED = "accepted"  # harmless: everything went on, and what must be equal is
TRACEBACK = "traceback"  # an exception, a crash, or an error that is not one clear line
WRONG = "wrong"  # other bits, contradictory answers, half a file
HUNG = "hung"  # no answer within the bound
FINDINGS = (TRACEBACK, WRONG, HUNG)


@dataclass(frozen=True)
class Attempt:
    """One attack and its end.

    Args:
        kind: of attack, as "coco".
        seed: of the whole session; with `kind` and `number` it gives the same attack again.
        verdict: one of this module's.
        detail: what was done and said, one line.
        times: how many kills or full disks it held.
    """

    kind: str
    seed: int
    number: int
    verdict: str
    seconds: float
    detail: str = ""
    times: int = 1

    @property
    def finding(self) -> bool:
        return self.verdict in FINDINGS

    @property
    def again(self) -> str:
        """The command that repeats it."""
        which = f"--seed {self.seed} --only {self.kind} --start {self.number} --count 1"
        return f"python -m tests.torture {which}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | ({"again": self.again} if self.finding else {})


def table(attempts: Sequence[Attempt], kinds: Iterable[str]) -> str:
    """One line for each kind that was tried and one for all."""
    head = ("attack", "attempts", "clear lines", "accepted", "tracebacks", "wrong bits", "hung")
    rows: list[tuple[str, ...]] = [(*head, "slowest")]
    for kind in kinds:
        of_kind = [one for one in attempts if one.kind == kind]
        if of_kind:
            rows.append(_row(kind, of_kind))
    rows.append(_row("all", attempts))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _row(name: str, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    def count(verdict: str) -> str:
        return f"{sum(one.times for one in attempts if one.verdict == verdict):,}"

    slowest = max((one.seconds / max(1, one.times) for one in attempts), default=0.0)
    total = f"{sum(one.times for one in attempts):,}"
    return (name, total, *map(count, (CLEAR, ACCEPTED, *FINDINGS)), f"{slowest:.1f} s")


def findings(attempts: Sequence[Attempt], *, most: int = 40) -> list[str]:
    """What is to be mended, with the command that shows it again; equal ones once."""
    seen: dict[tuple[str, str, str], list[Attempt]] = {}
    for one in attempts:
        if one.finding:
            seen.setdefault((one.kind, one.verdict, one.detail[:80]), []).append(one)
    lines = []
    for (kind, verdict, _), same in list(seen.items())[:most]:
        times = f" ({len(same)} times)" if len(same) > 1 else ""
        lines += [f"{kind}: {verdict}{times}: {same[0].detail}", f"    {same[0].again}"]
    if len(seen) > most:
        lines.append(f"… and {len(seen) - most} more")
    return lines
