"""Runs an exported folder with ONNX Runtime on the CPU."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.files import read_json
from detnet.inference.engines.exported import INPUT, ExportedEngine, Outputs
from detnet.inference.engines.record import chosen_threads
from detnet.text import one_line

_KERNEL = "_kernel_time"
_RUNS_AS = {
    "fp32": "fp32",
    "fp16": "fp32, from weights kept in fp16: its CPU kernels have no fp16",
    "int8": "int8 where layers were quantised, else fp32",
}


class OnnxRuntimeEngine(ExportedEngine):
    """An exported folder of the format onnx.

    Args:
        folder: as `detnet export` writes it.
        threads: that one call may use; None as the process was given.
        profile: see `ExportedEngine`.

    Raises:
        InputError: the folder cannot be used, or ONNX Runtime does not take its network.
    """

    name = "onnxruntime"

    def __init__(self, folder: Path, *, threads: int | None = None, profile: bool = False) -> None:
        super().__init__(folder, threads=threads, profile=profile)
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        threads = threads or chosen_threads()
        options: Any = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # nothing: what goes wrong it raises as well
        if threads:
            options.intra_op_num_threads = threads
        if profile:
            options.enable_profiling = True
            self._folder = tempfile.TemporaryDirectory(prefix="detnet-")
            options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        path = self.folder / self.record.network
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of many classes of its own, by what is wrong with the file
            reason = one_line(error, 300)
            raise InputError(f"{path}: ONNX Runtime does not take it: {reason}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        how = f"; {threads} thread{'s' * (threads != 1)}" if threads else ""
        self.runs_as = f"ONNX Runtime on the CPU: {_RUNS_AS[self.precision]}{how}"

    def run_network(self, images: np.ndarray) -> Outputs:
        found = self._session.run(self._outputs, {INPUT: images})
        return dict(zip(self._outputs, found, strict=True))

    def read_profile(self) -> list[dict[str, float]]:
        if not self.profile:
            return []
        self.profile = False
        events = read_json(self._session.end_profiling())
        self._folder.cleanup()
        calls: list[dict[str, float]] = []
        for event in sorted(events, key=lambda event: event["ts"]):
            if event["name"] == "model_run":
                calls.append({})
            elif event["name"].endswith(_KERNEL) and calls:
                node = event["name"].removesuffix(_KERNEL)
                calls[-1][node] = calls[-1].get(node, 0.0) + event["dur"] / 1e6
        return calls
