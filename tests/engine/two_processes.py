"""What each of two processes does under torchrun; `test_distributed.py` starts and judges it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.checkpoint import load, restore_rng_state, rng_state, save
from detnet.engine.distributed import (
    Process,
    Word,
    all_gather,
    any_process,
    barrier,
    cleanup,
    leave,
    same_on_all,
    setup,
    single_process,
    to_main,
)
from detnet.engine.interrupt import Interrupt
from detnet.engine.loop import Batch
from detnet.engine.watch import NonFiniteLoss
from tests.engine.toy import BLACK, WELL, Run, batch, batches


def shared(run: Run) -> DistributedDataParallel:
    return DistributedDataParallel(run.model)


def mine(process: Process, start: int = 0) -> Iterator[Batch]:
    """This process's two images of each batch of four."""
    rows = slice(2 * process.rank, 2 * process.rank + 2)
    for images, targets in batches(start, size=4):
        yield images[rows], targets[rows]


def talk(process: Process) -> dict[str, Any]:
    barrier()
    return {
        "process": [process.rank, process.world_size, process.device.type],
        "main": process.main,
        "gathered": all_gather({"rank": process.rank}),
        "to_main": to_main([(process.rank, piece) for piece in range(3 * process.rank)]),
        "same": same_on_all(f"from {process.rank}"),
        "any": [any_process(process.rank == 1), any_process(False)],
    }


def train(process: Process, accumulate: int) -> dict[str, Any]:
    """Three steps, counting how often gradients are exchanged."""
    run = Run(norm=False)
    model, exchanges = shared(run), []

    def count(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        exchanges.append(1)
        buffer = bucket.buffer().div_(process.world_size)
        work = dist.all_reduce(buffer, async_op=True)
        assert work is not None
        return work.get_future().then(lambda future: future.value()[0])

    model.register_comm_hook(None, count)
    steps = list(run.steps(3, mine(process), model=model, accumulate=accumulate))
    found = [(step.losses, step.images, step.grad_norm) for step in steps]
    return {"steps": found, "exchanges": len(exchanges), "bits": run.bits()}


def fail(process: Process) -> dict[str, Any]:
    """The second process's second batch is bad."""
    run = Run()
    kind = BLACK if process.rank == 1 else WELL
    source = [batch(10 * process.rank), batch(10 * process.rank + 1, kind=kind)]
    try:
        list(run.steps(2, source, model=shared(run)))
    except NonFiniteLoss as error:
        found = {"iteration": error.iteration, "images": error.image_ids, "message": str(error)}
        return {**found, "weight": run.model.conv.weight.detach().clone()}
    return {}


def stop(process: Process) -> dict[str, Any]:
    """Only the first process is told, after its second step."""
    run, last = Run(), 0
    with Interrupt() as interrupt:
        steps = run.steps(9, mine(process), model=shared(run), interrupt=interrupt)
        for step in steps:
            last = step.iteration
            if last == 2 and process.main:
                interrupt.set = True
    return {"stopped": last, "set": interrupt.set}


def resume(process: Process, folder: Path) -> dict[str, Any]:
    """Four steps against two, a checkpoint written by the main process, and two; with dropout."""
    torch.manual_seed(process.rank)
    whole = Run(norm=False, dropout=0.5)
    torch.manual_seed(process.rank)
    list(whole.steps(4, mine(process), model=shared(whole)))

    first = Run(norm=False, dropout=0.5)
    torch.manual_seed(process.rank)
    list(first.steps(2, mine(process), model=shared(first)))
    states = all_gather(rng_state())
    if process.main:
        first.save(folder / "last.ckpt", 2)
        save(folder / "rng.ckpt", {"processes": states})
    barrier()
    second = Run(norm=False, dropout=0.5)
    second.resume(folder / "last.ckpt")
    model: nn.Module = shared(second)
    restore_rng_state(load(folder / "rng.ckpt")["processes"][process.rank])
    list(second.steps(4, mine(process, start=2), model=model))
    bits, expected = second.bits(), whole.bits()
    return {"different": [name for name in expected if not torch.equal(bits[name], expected[name])]}


def meet_again() -> dict[str, Any]:
    """Several groups in one launch, with work that each does alone in between."""
    met, apart = [], []
    for _ in range(4):
        cleanup()
        apart.append((single_process("cpu"), all_gather("me")))
        process = setup("cpu")
        met.append(all_gather(process.rank))
    return {"met": met, "apart": [(p.rank, p.world_size, m) for p, m in apart]}


def call(process: Process) -> list[bool]:
    """The second process says a word; whether this one hears it before and after."""
    word = Word("stop")
    before = word.said()
    barrier()
    if not process.main:
        word.say()
    barrier()
    return [before, word.said(), Word("go").said()]


def main(folder: Path) -> None:
    process = setup("cpu")
    found = {
        "talk": talk(process),
        "train": train(process, accumulate=1),
        "accumulate": train(process, accumulate=2),
        "fail": fail(process),
        "stop": stop(process),
        "resume": resume(process, folder),
        "again": meet_again(),
        "call": call(process),
    }
    torch.save(found, folder / f"rank{process.rank}.pt")
    cleanup()
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
