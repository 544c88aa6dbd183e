"""Runs an exported folder with OpenVINO, and says in what the machine really computes."""

import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.inference.engines.exported import INPUT, ExportedEngine, Outputs
from detnet.inference.engines.record import chosen_threads
from detnet.text import one_line

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
_OURS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_HEAVY = ("Convolution", "FullyConnected", "Deconvolution", "MatMul")


def keep_silent() -> None:
    """Keeps OpenVINO and NNCF from reporting to their makers; before they are imported.

    OpenVINO sends an event to Google Analytics whenever it is imported, from a process that it
    forks and waits for. Without the package that does so both go on and send nothing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class OpenVinoEngine(ExportedEngine):
    """An exported folder of the format openvino.

    Args:
        folder: as `detnet export` writes it.
        threads: that one call may use; None as the process was given.
        streams: calls that run side by side, where several threads call it.
        profile: see `ExportedEngine`.

    Raises:
        InputError: the folder cannot be used, or OpenVINO does not take its network.
    """

    name = "openvino"

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        streams: int = 1,
        profile: bool = False,
    ) -> None:
        super().__init__(folder, threads=threads, profile=profile)
        keep_silent()
        import openvino

        threads = threads or chosen_threads()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": streams,
            "PERF_COUNT": profile,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        path = self.folder / self.record.network
        try:
            self._network: Any = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            reason = one_line(error, 300)
            raise InputError(f"{path}: OpenVINO does not take it: {reason}") from error
        self._outputs = [output.get_any_name() for output in self._network.outputs]
        self._requests = threading.local()
        self._calls: list[dict[str, float]] = []
        self.runs_as = _what_runs(self._network)

    def run_network(self, images: np.ndarray) -> Outputs:
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._network.create_infer_request()
        found = request.infer({INPUT: images}, share_inputs=True, share_outputs=False)
        if self.profile:
            ran = request.get_profiling_info()
            self._calls.append({node.node_name: node.real_time.total_seconds() for node in ran})
        return {name: found[place] for place, name in enumerate(self._outputs)}

    def read_profile(self) -> list[dict[str, float]]:
        self.profile = False
        return self._calls


def _what_runs(network: Any) -> str:
    """Counts the heavy layers by what they are computed in, as the compiled network has it."""
    kinds: Counter[str] = Counter()
    for layer in network.get_runtime_model().get_ops():
        info = layer.get_rt_info()
        if _text(info, "layerType") in _HEAVY:
            computed = _text(info, "primitiveType").lower().rpartition("_")[2]
            precision = _text(info, "runtimePrecision")
            kinds[_OURS.get(computed) or _OURS.get(precision, precision)] += 1
    parts = [f"{number} layers in {kind}" for kind, number in kinds.most_common()]
    threads = network.get_property("INFERENCE_NUM_THREADS")
    words = ", ".join(parts) or "no heavy layers"
    return f"OpenVINO on the CPU: {words}; {threads} thread{'s' * (threads != 1)}"


def _text(info: Any, name: str) -> str:
    value: Any = info[name] if name in info else ""  # noqa: SIM401 - no `get`
    return str(value.astype(str) if hasattr(value, "astype") else value)
