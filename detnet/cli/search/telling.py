"""The events of a search in words, for the screen that shows trainings."""

from collections.abc import Callable
from typing import Any

Watch = Callable[[dict[str, Any]], None]


def in_words(watch: Watch) -> Watch:
    """Turns the events of a search's worker into notes, and passes on all others."""

    def tell(event: dict[str, Any]) -> None:
        texts = {"generation": _generation, "candidate": _candidate}
        if event["event"] in texts:
            event = {"event": "note", "text": texts[event["event"]](event)}
        watch(event)

    return tell


def _generation(event: dict[str, Any]) -> str:
    count = event.get("candidates")
    return f"generation {event['generation']}" + (f": {count} candidates" if count else "")


def _candidate(event: dict[str, Any]) -> str:
    where = f"candidate {event['settled']} of {event['candidates']}"
    costs = f"{event['costs']['macs'] / 1e6:.1f} M multiply-adds"
    if event["state"] == "done":
        best = f" (best so far {100 * event['best']:.2f})" if event["best"] is not None else ""
        how = f"score {100 * event['values'][0]:.2f}{best}"
    else:
        again = "; tried again" if event["state"] == "waiting" else "; left out"
        how = f"failed: {event['error']}{again}"
    took = f", {event['seconds']:.1f} s" if event["seconds"] is not None else ""
    return f"  {where}: {event['text']}, {costs}{took}: {how}"
