"""The events of a search on the screen that shows trainings."""

from typing import Any

from detnet.cli.progress import Screen


class SearchScreen(Screen):
    """Tells of a search's generations and candidates, too."""

    def _generation(self, event: dict[str, Any]) -> None:
        self._note({"text": generation_text(event)})

    def _candidate(self, event: dict[str, Any]) -> None:
        self._note({"text": candidate_text(event)})


def generation_text(event: dict[str, Any]) -> str:
    """A new generation in words."""
    count = event.get("candidates")
    return f"generation {event['generation']}" + (f": {count} candidates" if count else "")


def candidate_text(event: dict[str, Any]) -> str:
    """A scored or failed candidate in words."""
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
