"""Answers requests with images over HTTP, and shows a page to drop an image on.

    detnet serve runs/a
    detnet serve runs/a --port 9000 --token-file tokens.txt
    curl -F image=@photo.jpg http://127.0.0.1:8000/predict

MODEL is a run folder, a .safetensors file or an exported folder. POST /predict takes images in
fields named `image` and answers with COCO's results; GET /model, /health, /ready and /metrics tell
how it is, /docs and /openapi.json what it takes. It listens to this machine alone unless --host
says otherwise, keeps no state, and needs the serve extra: pip install 'detnet[serve]'.
"""

import argparse
import importlib.util
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from detnet.cli.arguments import add_engine, tell
from detnet.errors import InputError
from detnet.text import duration

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_LOCAL = ("127.0.0.1", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "model", metavar="MODEL", help="run folder, .safetensors file or exported folder"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes any that is free (default: 8000)"
    )
    add_engine(parser)
    parser.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        help="images of one network size that run together (default: as many as an export was "
        "made for; in torch 1, on processors 2 to 4 help with small images alone)",
    )
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=5.0,
        metavar="MS",
        help="how long an image waits for others to run with it (default: 5)",
    )
    parser.add_argument(
        "--max-queue",
        type=int,
        default=64,
        metavar="N",
        help="images that wait at most; more are answered with 503 at once, as are those that "
        "would wait longer than 8 s (default: 64)",
    )
    parser.add_argument(
        "--max-pixels",
        type=_whole,
        default=50_000_000,
        metavar="N",
        help="of one image, as 50e6 (default: 50e6)",
    )
    parser.add_argument(
        "--max-body",
        type=_whole,
        default=20_000_000,
        metavar="BYTES",
        help="of one request, as 20e6 (default: 20e6)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="let in only requests with `Authorization: Bearer` and one of the tokens in this "
        "file, one a line",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    if os.name != "posix":
        raise InputError("serve runs on Linux and macOS only")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"serve needs {missing[0]}: pip install 'detnet[serve]'")

    from detnet.inference.engines.record import is_export
    from detnet.inference.models import find_model
    from detnet.inference.server.settings import ServerLimits, ServerSettings, read_tokens
    from detnet.inference.server.supervisor import Supervisor, listen

    given = {
        each.name: value
        for each in fields(ServerLimits)
        if (value := vars(args).get(each.name)) is not None
    }
    settings = ServerSettings(
        model=args.model,
        engine=args.engine,
        limits=replace(ServerLimits(), **given),
        token_digests=read_tokens(args.token_file) if args.token_file else (),
        plugins=tuple(args.plugins),
    )
    if not is_export(args.model):
        find_model(args.model)
    listener = listen(args.host, args.port)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if args.host not in _LOCAL and not settings.token_digests:
        tell(f"whoever reaches {address} may use it; --token-file lets in those with a token only")
    tell(f"loading {args.model} …")

    def on_ready(facts: dict[str, Any]) -> None:
        tell(
            f"serving {args.model} by {facts['engine']} ({facts['runs_as']}), loaded in "
            f"{duration(facts['load_s'])}; the page is at {address}/, the docs at {address}/docs"
        )
        if facts["first"]:
            print(address, flush=True)

    Supervisor(settings, listener, on_ready=on_ready, say=tell).run()
    return 0


def _whole(text: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number, such as 20e6") from None
