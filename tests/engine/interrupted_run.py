"""A long run with two workers that saves when a signal ends it; `test_interrupt.py` sends one."""

import sys
import time
from pathlib import Path

from torch.utils.data import DataLoader, IterableDataset

from detnet.engine.interrupt import Interrupt
from detnet.engine.loop import Batch
from tests.engine.toy import Run, batch


class Slow(IterableDataset[Batch]):
    def __iter__(self):  # type: ignore[no-untyped-def]
        for number in range(100_000):
            time.sleep(0.01)
            yield batch(number)


def main(folder: Path) -> None:
    run = Run()
    with Interrupt() as interrupt:
        loader = DataLoader(Slow(), batch_size=None, num_workers=2, multiprocessing_context="fork")
        for step in run.steps(100_000, loader, interrupt=interrupt):
            if step.iteration == 2:
                (folder / "started").touch()
        run.save(folder / "last.ckpt", step.iteration)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
