"""A pretended accelerator: torch takes it for a device of its own, and the processor computes.

    register()
    model.to("pretended")

What CUDA does to a program and a processor does not, it does: tensors of two devices do not mix, a
random stream and autocast of its own, no conversion to numpy, and wherever the host has to wait
for what the device has under way, the wait is counted (see `waits`). It does not work behind the
host, and has no memory of its own that could run out.

Registering it changes torch for the whole process, so tests that use it run in a process of their
own. `--plugin tests.pretended.plugin` brings it along.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tests.pretended.autocast import register_autocast
from tests.pretended.nested import mapped, tensors
from tests.pretended.norms import KERNELS
from tests.pretended.waits import note_waits

NAME = "pretended"
DEVICES = 1  # torch gives a backend in Python one queue for its backward passes

aten = torch.ops.aten
# Copies go from anywhere to anywhere; an index may lie on the host, and is then copied.
_MIXING = {aten.copy_, aten._to_copy, aten._foreach_copy_}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Factors of half precision, sums of full: a GPU does so, and processors without instructions for
# it are hundreds of times slower the other way.
_PRODUCTS = {
    *(aten.convolution, aten.convolution_backward, aten.convolution_overrideable),
    *(aten.mm, aten.addmm, aten.bmm, aten.baddbmm),
}
_HALVES = {torch.bfloat16, torch.float16}
_SEEDED = torch.Tag.nondeterministic_seeded


class Pretended(Tensor):
    """A tensor that says it lies on the device; `host` is what the processor computes with."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor, index: int = 0) -> "Pretended":
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=torch.device(NAME, index),
        )
        made.host = host
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, kwargs or {})

    def __repr__(self, **kwargs: Any) -> str:
        return f"{self.host.__repr__(**kwargs)[:-1]}, device='{self.device}')"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    __array__ = numpy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)  # as `map_location="cpu"` reads it


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs an operator on what the tensors stand for."""
    given = list(tensors([*args, *kwargs.values()]))
    # What autograd passes by, because of the mode or of tensors made in it, comes in one piece.
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in given):
        found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
    index = next((t.device.index for t in given if isinstance(t, Pretended)), 0)
    _require_one_device(func, args, given)
    note_waits(func, args, kwargs)
    on_host = False
    if kwargs.get("device") is not None:
        asked = torch.device(kwargs["device"])
        on_host, index = asked.type == "cpu", asked.index or 0
        kwargs = {**kwargs, "device": torch.device("cpu"), "pin_memory": None}
        if all(argument.name != "pin_memory" for argument in func._schema.arguments):
            del kwargs["pin_memory"]
    known = {id(t.host if isinstance(t, Pretended) else t): t for t in given}
    hosts = mapped(args, _host), {name: mapped(value, _host) for name, value in kwargs.items()}
    kernel = KERNELS.get(func.overloadpacket, func)
    run = _own_stream if _SEEDED in func.tags else _plainly
    if func.overloadpacket in _PRODUCTS and any(t.dtype in _HALVES for t in given):
        run = _added_up_in_fp32
    found = run(kernel, *hosts)

    def place(value: Tensor) -> Tensor:
        before = known.get(id(value))
        if before is None:
            return value if on_host else Pretended(value, index)
        if before.shape != value.shape:
            raise NotImplementedError(f"{func} gives a tensor another shape in place")
        return before

    return mapped(found, place)


def _host(value: Tensor) -> Tensor:
    return value.host if isinstance(value, Pretended) else value


def _require_one_device(func: Any, args: tuple[Any, ...], given: list[Tensor]) -> None:
    """Refuses what CUDA's kernels refuse; single numbers may come from the host."""
    packet = func.overloadpacket
    if packet in _MIXING:
        return
    if packet in _INDEXING and isinstance(args[0], Pretended):
        indices = list(tensors([args[1]]))
        given = [t for t in given if not any(t is index for index in indices)]
    places = {t.device for t in given if t.ndim or isinstance(t, Pretended)}
    if len(places) > 1:
        names = ", ".join(sorted(map(str, places)))
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {names}")


class _Event:
    """What has been recorded has happened: the device does not work behind the host."""

    def __init__(self, device: Any = None) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Module:
    """What `torch.cuda` is for CUDA."""

    def __init__(self) -> None:
        self._generators = [torch.Generator() for _ in range(DEVICES)]
        self._current = 0

    def device_count(self) -> int:
        return DEVICES

    def current_device(self) -> int:
        return self._current

    def set_device(self, device: Any) -> None:
        self._current = _index(device)

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_device_name(self, device: Any = None) -> str:
        return "a pretended accelerator"

    def synchronize(self, device: Any = None) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def max_memory_allocated(self, device: Any = None) -> int:
        return 0

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        pass

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return True

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def manual_seed(self, seed: int) -> None:
        self._generators[self._current].manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        for generator in self._generators:
            generator.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self._generators[self._current if device is None else _index(device)].get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self._generators[self._current if device is None else _index(device)].set_state(state)


def _index(device: Any) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0


_module = _Module()


def _own_stream(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Draws from the device's random numbers instead of the processor's."""
    before = torch.get_rng_state()
    torch.set_rng_state(_module.get_rng_state())
    try:
        return func(*args, **kwargs)
    finally:
        _module.set_rng_state(torch.get_rng_state())
        torch.set_rng_state(before)


def _made(func: Any) -> Callable[..., Tensor]:
    """A factory on the device: what has no tensor to go by."""

    def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        given = {k: v for k, v in kwargs.items() if v is not None and k not in _UNTOLD}
        run = _own_stream if _SEEDED in func.tags else _plainly
        return Pretended(run(func, args, given), _index(device or NAME))

    return make


_UNTOLD = {"layout", "pin_memory"}


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """`copy_` where torch passes `__torch_dispatch__` by: `torch.tensor(..., device=...)` does."""
    copied: Tensor = _computed(aten.copy_.default, (target, source, non_blocking), {})
    return copied


def _added_up_in_fp32(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    half = next(t.dtype for t in tensors([args]) if t.dtype in _HALVES)
    found = func(*mapped(args, lambda t: t.float() if t.dtype in _HALVES else t), **kwargs)
    return mapped(found, lambda t: t.to(half))


def _plainly(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


_FACTORIES = [
    *(aten.empty.memory_format, aten.empty_strided.default, aten.scalar_tensor.default),
    *(aten.arange.default, aten.arange.start, aten.arange.start_step),
    *(aten.randperm.default, aten.eye.default, aten.eye.m, aten.linspace.default),
    *(aten.rand.default, aten.randn.default, aten.randint.default, aten.randint.low),
    *(aten.zeros.default, aten.ones.default, aten.full.default, aten.tril_indices.default),
]

_libraries: list[Any] = []


def register() -> torch.device:
    """Makes the device known to torch, once in a process."""
    if not _libraries:
        import torchvision  # noqa: F401, whose operators are taken in, too
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

        _setup_privateuseone_for_python_backend(NAME, backend_module=_module)
        core, vision, all_others = (
            torch.library.Library(name, "IMPL") for name in ("aten", "torchvision", "_")
        )
        _libraries.extend([core, vision, all_others])
        for factory in _FACTORIES:
            name = str(factory).removeprefix("aten.").removesuffix(".default")
            core.impl(name, _made(factory), "PrivateUse1")
        core.impl("_copy_from", _copied, "PrivateUse1")
        register_autocast(NAME, core, vision, all_others)
        dist.Backend.default_device_backend_map[NAME] = "gloo"
        torch.Event = _Event  # type: ignore[assignment, misc]
        torch.accelerator.synchronize = lambda device=None: None  # type: ignore[assignment]
        Tensor.pin_memory = lambda self, device=None: self  # type: ignore[method-assign]
    return torch.device(NAME, 0)


def place() -> torch.device:
    """Where `engine.py` and `norms.py` run: on CUDA where `DETNET_TEST_DEVICE` says so, or here."""
    if os.environ.get("DETNET_TEST_DEVICE", NAME) == NAME:
        return register()
    torch.backends.cudnn.deterministic = True
    return torch.device(os.environ["DETNET_TEST_DEVICE"], 0)
