"""What a server is told: the model, the address, who may ask, and the bounds of everything."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detnet.errors import InputError
from detnet.files import read_text

TAKES_LESS = "--max-batch 1 and an export, best in int8, take less"  # memory
_SHORTEST_TOKEN = 16  # characters; what is shorter can be tried out


@dataclass(frozen=True)
class ServerLimits:
    """How much of everything a server takes; what is beyond is refused with a reason.

    Args:
        max_batch: images that run together, where they are of one size for the network; None for
            as many as an export was made for, and one at a time in torch.
        max_wait_ms: how long an image waits for others to run with it.
        max_pixels: of one image.
        max_body: bytes of one request.
        max_queue: images that wait.
        max_delay_s: how long an accepted image may have to wait, as far as can be foreseen.
        max_images: in one request.
        connections: open at a time.
        header_s: time for a request's header to arrive.
        body_s: time for its body.
        write_s: time for a client to take its answer.
        linger_s: time for the rest of a body that is refused, so that the answer is read.
        stop_s: time for what was accepted, once the server is told to end.

    Raises:
        InputError: an option is below what makes sense.
    """

    max_batch: int | None = None
    max_wait_ms: float = 5.0
    max_pixels: int = 50_000_000
    max_body: int = 20_000_000
    max_queue: int = 64
    max_delay_s: float = 8.0
    max_images: int = 16
    connections: int = 256
    header_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    linger_s: float = 3.0
    stop_s: float = 9.0

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch", 1),
            ("max_wait_ms", 0),
            ("max_pixels", 1),
            ("max_body", 1),
            ("max_queue", 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value < 2**40:
                option = name.replace("_", "-")
                raise InputError(f"--{option} must be {least} or more, got {value}")

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that may be in memory, of all requests together."""
        return 16 * self.max_body


@dataclass(frozen=True)
class ServerSettings:
    """All that a worker is told by its parent.

    Args:
        model: as every command's MODEL.
        engine: name of what runs it, or "auto".
        limits: of requests.
        token_digests: SHA-256 of the tokens of which each request must bring one, in hexadecimal;
            none lets everyone in.
        plugins: see `load_plugins`.
        image_s: what an image took the worker before this one; None for the first, which tries the
            model out.
    """

    model: str
    engine: str = "auto"
    limits: ServerLimits = field(default_factory=ServerLimits)
    token_digests: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    image_s: float | None = None

    def to_json(self) -> str:
        """One line, from which another process makes the same."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ServerSettings":
        """The settings that were written down."""
        content: dict[str, Any] = json.loads(text)
        content["limits"] = ServerLimits(**content["limits"])
        for name in ("token_digests", "plugins"):
            content[name] = tuple(content[name])
        return cls(**content)


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path) -> tuple[str, ...]:
    """Reads the digests of a file's tokens: one a line, lines that begin with "#" left out.

    Raises:
        InputError: the file cannot be read, has no token, or one that can be guessed.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise InputError(f"{path}: holds no token; write one a line")
    for number, line in enumerate(lines, 1):
        if line in tokens and (len(line) < _SHORTEST_TOKEN or not line.isascii() or " " in line):
            raise InputError(
                f"{path}: line {number} is no token: it takes {_SHORTEST_TOKEN} or more letters, "
                "digits and signs without spaces, as `openssl rand -hex 32` gives"
            )
    return tuple(digest(token) for token in dict.fromkeys(tokens))
