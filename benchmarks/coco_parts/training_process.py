"""One process of a training, from its start to its first batch, or through steps of an empty model.

Started by `processes.crowd`; it tells what it found in JSON lines, and waits for one to go on.
"""

import time

BEGAN = time.time()

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402, F401
import torchvision  # noqa: E402, F401


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def wait() -> None:
    sys.stdin.readline()


def peak_mb(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def first_batch(told: dict[str, Any]) -> None:
    """Reads the data as `detnet train` does, and stays at the first batch."""
    from coco_parts.task import make_task

    task = make_task(told)
    read_s = time.time() - BEGAN
    batches = task.stream(start=0, stop=1000)
    images, targets = next(batches)
    tell(
        import_and_read_s=read_s,
        start_s=time.time() - told["began"],
        own_peak_mb=peak_mb(resource.RUSAGE_SELF),
        reader_peak_mb=peak_mb(resource.RUSAGE_CHILDREN),
        images=len(images),
        objects=sum(len(target["boxes"]) for target in targets),
    )
    wait()


def imagenet(told: dict[str, Any]) -> None:
    """Lists the images as `detnet pretrain` does, and stays at the first batch."""
    from coco_parts.task import make_pretraining

    began = time.time()
    task = make_pretraining(told)
    read_s = time.time() - began
    images, _ = next(task.stream(start=0, stop=1000))
    tell(
        read_s=read_s,
        start_s=time.time() - told["began"],
        own_peak_mb=peak_mb(resource.RUSAGE_SELF),
        images=len(images),
    )
    wait()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    sys.path.insert(0, told["beside"])
    if told["what"] == "imports":
        tell(start_s=time.time() - told["began"])
        wait()
    elif told["what"] == "first batch":
        first_batch(told)
    elif told["what"] == "imagenet":
        imagenet(told)
    else:
        from coco_parts.empty_steps import steps

        steps(told, tell)
    sys.stdout.flush()
    import os

    os._exit(0)  # workers that read ahead are not waited for
