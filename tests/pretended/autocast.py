"""Autocast on the pretended device: torch's lists for CUDA, as its documentation has them.

https://pytorch.org/docs/stable/amp.html#autocast-op-reference
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from tests.pretended.nested import mapped, tensors

LOWER = (
    *("addbmm", "addmm", "addmv", "baddbmm", "bmm", "mm", "mv", "matmul", "linear", "prelu"),
    *("conv1d", "conv2d", "conv3d", "convolution", "_convolution", "scaled_dot_product_attention"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
FULL = (
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p"),
    *("reciprocal", "rsqrt", "sinh", "tan", "pow", "softplus", "layer_norm", "group_norm"),
    *("native_layer_norm", "native_group_norm", "frobenius_norm", "nuclear_norm", "renorm"),
    *("cosine_similarity", "cosine_embedding_loss", "poisson_nll_loss", "nll_loss", "nll_loss2d"),
    *("kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss", "cdist", "pdist", "norm"),
    *("binary_cross_entropy_with_logits", "softmax", "log_softmax", "prod", "sum", "cumprod"),
    *("cumsum", "upsample_nearest2d", "upsample_bilinear2d"),
)
WIDEST = (
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put"),
    "scatter_add",
)
# Of torchvision, whose kernels compute in fp32 and give back the type that they were given.
VISION = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "nms", "deform_conv2d")

_aten, _vision = torch.ops.aten, torch.ops.torchvision
_key = torch._C.DispatchKey.AutocastPrivateUse1


def register_autocast(name: str, core: Any, vision: Any, all_others: Any) -> None:
    """Registers it for the device of that name.

    Args:
        core, vision, all_others: libraries of `torch.library`, for "aten", "torchvision" and "_".
    """

    def lower(floating: list[Tensor]) -> torch.dtype:
        return torch.get_autocast_dtype(name)

    def widest(floating: list[Tensor]) -> torch.dtype:
        wide = any(tensor.dtype == torch.float32 for tensor in floating)
        return torch.float32 if wide else lower(floating)

    all_others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _register(core, _aten, LOWER, lower)
    _register(core, _aten, FULL, lambda floating: torch.float32)
    _register(core, _aten, WIDEST, widest)
    _register(vision, _vision, VISION, lambda floating: torch.float32, gives_back=True)


def _register(
    library: Any,
    namespace: Any,
    names: Iterable[str],
    type_of: Callable[[list[Tensor]], torch.dtype],
    *,
    gives_back: bool = False,
) -> None:
    for name in names:
        packet = getattr(namespace, name)
        for overload in packet.overloads():
            if not overload.endswith("out"):
                full = f"{name}.{overload}".removesuffix(".default")
                run = _cast(getattr(packet, overload), type_of, gives_back)
                library.impl(full, run, "AutocastPrivateUse1")


def _cast(
    overload: Any, type_of: Callable[[list[Tensor]], torch.dtype], gives_back: bool
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        floating = [t for t in tensors([*args, *kwargs.values()]) if t.is_floating_point()]
        dtype = type_of(floating)

        def change(value: Tensor) -> Tensor:
            fits = value.device.type != "cpu" and value.is_floating_point()
            return value.to(dtype) if fits and value.dtype != torch.float64 else value

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_key)):
            options = {key: mapped(value, change) for key, value in kwargs.items()}
            found = overload(*mapped(args, change), **options)
        if gives_back:  # some give whole numbers, too
            back = floating[0].dtype
            return mapped(found, lambda each: each.to(back) if each.is_floating_point() else each)
        return found

    return run
