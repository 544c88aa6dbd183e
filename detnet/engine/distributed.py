"""One process or many: what torchrun says, and the few things processes tell each other.

Every function works in a single process too, where there is nobody to talk to.
"""

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from detnet.engine.launch import is_main as is_main
from detnet.engine.machine import accelerator, configure_cuda
from detnet.engine.peers import LostProcess, Peers
from detnet.errors import InputError
from detnet.text import one_line

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)  # the others wait this long while the main process evaluates
_NEWS_S = 5.0  # from an exchange that fails to the news of who is lost
_groups = count()  # that this process has been in; the others count alike
_peers: list[Peers] = []  # of the group that it is in


@dataclass(frozen=True)
class Process:
    """This process's place among all that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def joined(device: str | None = None) -> Iterator[Process]:
    """Does work together with the other processes, see `setup`.

    An error here is told to the others, and one of theirs here, so that nobody waits for a process
    that has failed.

    Raises:
        InputError: see `setup`.
        LostProcess: another process has ended before its time.
    """
    process = setup(device)
    why = ""
    try:
        yield process
    except BaseException as error:
        # What torch raises when it finds that nobody is at the other end.
        failed = type(error) is RuntimeError or isinstance(error, dist.DistError)
        for peers in _peers if failed else ():
            if what := peers.lost(within_s=_NEWS_S):
                raise LostProcess(what) from error
        why = one_line(error, 300)
        raise
    finally:
        cleanup(why)


def setup(device: str | None = None) -> Process:
    """Joins the other processes if torchrun started several, and says which device is ours.

    A command may do so several times, with `cleanup` in between; all processes as often.

    Args:
        device: "cpu" or "cuda"; None takes what the machine has, see `accelerator`. Several
            processes take one device each.

    Raises:
        InputError: the device is asked for and missing, or there are fewer than processes.
        LostProcess: the first process cannot be reached.
    """
    process = single_process(device)
    if "RANK" not in os.environ:
        return process
    # Objects and flags travel through gloo beside any device: NCCL would wait for the GPU.
    kinds = dict.fromkeys(("cpu", process.device.type))
    backend = ",".join(f"{kind}:{dist.get_default_backend_for_device(kind)}" for kind in kinds)
    store, rank, world_size = _meeting_place()
    # Each group under keys of its own: under those of the group before, the first process here
    # would find addresses at which nobody listens any more.
    store = dist.PrefixStore(f"detnet/{next(_groups)}", store)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=_PATIENCE
    )
    if world_size > 1:
        _peers[:] = [Peers(store, rank, world_size, os.environ["MASTER_ADDR"])]
    return replace(process, rank=rank, world_size=world_size)


def single_process(device: str | None = None) -> Process:
    """Says which device is this process's, see `setup`, and leaves the others to themselves.

    For work that processes do not do in step: whatever it runs finds nobody to talk to.

    Raises:
        InputError: the device is not in this machine.
    """
    kind, _, index = (device or str(accelerator() or "cpu")).partition(":")
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if kind == "cpu":
        place = torch.device(kind)
    else:
        _require_device(kind, local_rank)
        place = torch.device(kind, int(index or 0) if "RANK" not in os.environ else local_rank)
        torch.get_device_module(place).set_device(place)
        configure_cuda(place)
    return Process(0, 1, place)


def cleanup(why: str = "") -> None:
    """Leaves the other processes, telling them why if it is before its time."""
    for peers in _peers:
        peers.leave(why)
    # NCCL ends a group when all its processes do: one that waits in an exchange never gets there.
    if several() and not (why and "nccl" in dist.get_backend_config()):
        dist.destroy_process_group()
    while _peers:
        _peers.pop().close()


def leave(code: int) -> NoReturn:
    """Ends a process that was one of several, without Python's own shutdown.

    A thread of gloo's may still hold a tensor after the last exchange, as DDP keeps the group
    alive beyond `cleanup`. Giving it back while Python shuts down aborts the process (torch 2.11
    to 2.15), and a finished run would end in an error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def all_gather(value: T) -> list[T]:
    """What every process gave, by rank; anything that pickles."""
    if not several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def to_main(pieces: Sequence[T]) -> list[T]:
    """Every process's pieces, by rank, on the main process; none on the others.

    They travel one by one to where they are needed: nobody holds them twice, and the others need
    no room for what is not theirs.

    Args:
        pieces: anything that pickles.
    """
    if several() and dist.get_rank():
        for sent in (len(pieces), *pieces):
            dist.send_object_list([sent], dst=0)
        return []
    found = [*pieces]
    for rank in range(1, dist.get_world_size() if several() else 1):
        found += [_received(rank) for _ in range(_received(rank))]
    return found


def _received(rank: int) -> Any:
    box: list[Any] = [None]
    dist.recv_object_list(box, src=rank)
    return box[0]


def same_on_all(value: T) -> T:
    """The main process's value, on every process."""
    if not several():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def any_process(flag: bool) -> bool:
    """Whether the flag is set on at least one process; all must ask at the same point."""
    if not several():
        return flag
    raised = torch.tensor(float(flag))
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def barrier() -> None:
    """Waits until every process is here."""
    any_process(False)


@functools.cache
def _meeting_place() -> tuple[Any, int, int]:
    """Where the processes learn each other's addresses, and this one's place among them.

    Kept to the end: without torchrun's own, the first process keeps it for all.
    """
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    store, rank, world_size = next(rendezvous("env://", timeout=_PATIENCE))
    store.set_timeout(_PATIENCE)
    return store, rank, world_size


class Word:
    """What one process says and all can hear whenever they ask, without waiting for each other.

    Args:
        name: of this word; it is said once and for all while the processes live.
    """

    def __init__(self, name: str) -> None:
        self._name = f"detnet/word/{name}"
        self._store = _meeting_place()[0] if "RANK" in os.environ else None

    def say(self) -> None:
        if self._store is not None:
            self._store.set(self._name, "said")

    def said(self) -> bool:
        return self._store is not None and self._store.check([self._name])


def several() -> bool:
    """Whether this process is one of a group."""
    return dist.is_available() and dist.is_initialized()


def _require_device(kind: str, local_rank: int) -> None:
    here = accelerator()
    if here is None or here.type != kind:
        raise InputError(f"device {kind}: this machine has none that torch can use; use device cpu")
    count = torch.get_device_module(here).device_count()
    if local_rank >= count:
        raise InputError(
            f"torchrun started process {local_rank + 1} of this machine, which has {count} "
            f"{kind.upper()} devices; lower --nproc-per-node or use device cpu"
        )
