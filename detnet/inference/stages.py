"""The stages that an image goes through in a detector, and a clock that tells them apart."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

DECODE, NETWORK, REST = "decode", "network", "post-processing"
# In the order in which they are gone through; each detector has those that it has.
STAGES = (DECODE, "resize", "backbone", "pyramid", "proposals", "heads", NETWORK, REST)
# What an exported engine does, by its methods; in a method what it calls is not counted to it.
OF_EXPORTS = {"detect_batch": "resize", "run_network": NETWORK, "read_outputs": REST}
# How `detnet export` names a node; quantising puts words of its own before it.
_OF_NODES = re.compile(rf"(?:^|[^A-Za-z-])({'|'.join(STAGES)})/")


class StageClock:
    """Adds up how long each stage takes; what runs within a stage is not counted to it.

    Args:
        settle: waits for a device that computes on while Python goes on.
    """

    def __init__(self, settle: Callable[[], object] = lambda: None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._settle = settle
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Counts an object's method as a stage from now on."""
        function = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*args, **options)

        setattr(owner, method, timed)

    def _turn(self) -> None:
        self._settle()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def watch_detector(network: Any, clock: StageClock) -> None:
    """Tells the stages of a detector in torch apart, whichever of these parts it has.

    What belongs to none, as choosing among candidates in one stage, is counted to what calls it.
    """
    body, regions = network.backbone, getattr(network, "roi_heads", None)
    parts = [
        (network.transform, "forward", "resize"),
        (body, "forward", "backbone"),
        (getattr(body, "neck", None), "forward", "pyramid"),
        (getattr(network, "rpn", None), "forward", "proposals"),
        (getattr(network, "head", None), "forward", "heads"),
        (regions, "forward", "heads"),
        (regions, "postprocess_detections", REST),
    ]
    for owner, method, name in parts:
        if hasattr(owner, method):
            clock.watch(owner, method, name)


def split_network(
    seconds: dict[str, float], nodes: Mapping[str, float], *, images: int = 1
) -> None:
    """Counts what an exported network's nodes take to their stages instead of to the network.

    What belongs to no stage, the runtime's own work, stays the network's; an export whose nodes
    are not named by stages stays in one piece.

    Args:
        seconds: by stage, changed in place.
        nodes: seconds of each by its name.
        images: that ran together; each has its share of all but decoding, which was of one.
    """
    for name, took in nodes.items():
        if stage := _OF_NODES.search(name):
            seconds[stage[1]] = seconds.get(stage[1], 0.0) + took
            seconds[NETWORK] = max(0.0, seconds[NETWORK] - took)
    for name in seconds.keys() - {DECODE}:
        seconds[name] /= images
