# SPDX-License-Identifier: GPL-3.0-or-later
"""BlazePose's large network, which mediapipe's wheel does not hold: where it lies, and fetching it (standard library only).

It comes from Google's own package of the npm registry (Apache-2.0), of which the wheel's smaller network is a part, too.
"""

import hashlib
import http.client
import importlib.util
import os
import ssl
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .moving import replace

MEDIAPIPE = "mediapipe==0.10.21"  # later ones have neither the graphs nor the networks
NAME = "BlazePose heavy"
FILE = "pose_landmark_heavy.tflite"
SHA256 = "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe"
BYTES = 27_709_200
PACKAGE, ARCHIVE = "@mediapipe/pose", "pose-0.5.1675469404.tgz"
MEGABYTES = 41  # of the archive
REGISTRY = "https://registry.npmjs.org"
WITHOUT = "Without it the detection is faster, and less sure of where arms and legs are."
_BLOCK = 1 << 18


class Unfetched(Exception):
    """One sentence: why the models could not be had."""


class Cancelled(Exception):
    """`should_stop` said so."""


def mediapipe(prefix: Path | None = None) -> Path | None:
    """mediapipe's folder in the environment under `prefix`, else in this Python's; None where there is none."""
    if prefix is None:
        spec = importlib.util.find_spec("mediapipe")
        found = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    else:
        found = [*prefix.glob("lib/python3*/site-packages/mediapipe"), *prefix.glob("Lib/site-packages/mediapipe")]
    return found[0] if found else None


def suits(package: Path) -> bool:
    """Whether mediapipe, whose folder is told, is of a release that the detector runs with."""
    return (package / "python" / "solutions").is_dir()


def place(package: Path) -> Path:
    """Where mediapipe, whose folder is told, looks for the network."""
    return package / "modules" / "pose_landmark" / FILE


def there(package: Path | None) -> bool:
    """Whether the network is in mediapipe's folder, whole (a tenth of a second): mediapipe ends at a damaged one."""
    try:
        if package is None or place(package).stat().st_size != BYTES:
            return False
        return hashlib.sha256(place(package).read_bytes()).hexdigest() == SHA256
    except OSError:
        return False


def fetch(
    package: Path | None,
    source: Path | None = None,
    on_part: Callable[[float, float], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    context: ssl.SSLContext | None = None,
) -> None:
    """Put it into mediapipe's folder, from the archive `source` or the one in that folder, or from the npm registry.

    npm's own setting of another registry (npm_config_registry) holds here, too. context: whose certificates are believed. on_part(done, total) MB of the archive. Raises
    Unfetched or Cancelled; nothing half is left.
    """
    if package is None:
        raise Unfetched(f"{NAME} goes into mediapipe's folder, and mediapipe is not there.")
    if there(package):
        return
    target = place(package)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as scratch:
            part = Path(scratch) / FILE
            if source is not None:
                named = [path for path in sorted(source.glob(f"*{ARCHIVE}")) if not path.name.startswith(".")]  # macOS has "._" beside some
                archive = source if source.is_file() else next(iter(named), None)
                if archive is None:
                    raise Unfetched(f"The offline folder {source} has no {ARCHIVE}.")
                with open(archive, "rb") as file:
                    _unpack(_Counted(file, archive.stat().st_size, on_part, should_stop), part)
            else:
                registry = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
                with urllib.request.urlopen(f"{registry.rstrip('/')}/{PACKAGE}/-/{ARCHIVE}", timeout=60, context=context) as reply:
                    _unpack(_Counted(reply, int(reply.headers.get("Content-Length") or 0), on_part, should_stop), part)
            replace(part, target)
    except (OSError, EOFError, tarfile.TarError, ValueError, http.client.HTTPException) as fault:  # urllib's faults are OSErrors
        reason = " ".join(str(getattr(fault, "reason", fault)).split())
        raise Unfetched(f"{NAME} could not be fetched ({reason}).") from fault


class _Counted:
    """A stream that tells how much of it was read."""

    def __init__(self, stream: Any, total: int, on_part, should_stop):
        self._stream, self._total, self._done = stream, total, 0
        self._on_part, self._should_stop = on_part, should_stop

    def read(self, size: int = _BLOCK) -> bytes:
        if self._should_stop():
            raise Cancelled
        block = self._stream.read1(size)  # what has come: a slow connection can be cancelled, too
        self._done += len(block)
        self._on_part(self._done / 1e6, max(self._total, self._done) / 1e6)
        return block


def _unpack(stream: _Counted, target: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r|gz", bufsize=_BLOCK) as archive:
        for member in archive:
            if member.isfile() and member.name.rpartition("/")[2] == FILE:
                content = archive.extractfile(member)
                assert content is not None
                data = content.read()
                if hashlib.sha256(data).hexdigest() != SHA256:
                    raise ValueError(f"{FILE} is not the file that was pinned: its hash differs")
                target.write_bytes(data)
                return
    raise ValueError(f"the archive has no {FILE}")
