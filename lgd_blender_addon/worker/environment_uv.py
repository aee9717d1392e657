# SPDX-License-Identifier: GPL-3.0-or-later
"""uv, which makes the environment: its pinned wheel from PyPI or the offline folder, its hash checked, its program unpacked."""

import contextlib
import hashlib
import importlib
import json
import os
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from .._bridge import LgdError, moving
from .environment_hardware import machine_name
from .requirements import UV_VERSION, UV_WHEELS

INDEX = "https://pypi.org/simple"
_AGENT = {
    "User-Agent": f"lgd_blender_addon (uv {UV_VERSION})",
    "Accept": "application/vnd.pypi.simple.v1+json",
}


def wheel_of(system: str, machine: str) -> tuple[str, str]:
    """File name and SHA-256 of uv's wheel for a system; raises LgdError where there is none."""
    try:
        return UV_WHEELS[system, machine_name(machine)]
    except KeyError:
        text = f"uv is not pinned for {system} on {machine}."
        raise LgdError("setup_incomplete", text, "Choose venv and pip, or point to an interpreter.") from None


def program_name() -> str:
    """uv's file name here."""
    return "uv.exe" if os.name == "nt" else "uv"


def unpack(wheel: Path, sha256: str, folder: Path) -> Path:
    """Check a wheel's hash and unpack its program to folder/uv-VERSION/; raises LgdError for another hash."""
    digest = hashlib.sha256()
    with open(wheel, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        text = f"{wheel.name} is not the file that was pinned: its hash differs."
        raise LgdError(
            "setup_incomplete", text, "Remove it and fetch it again; if it stays so, do not use it."
        )
    target = folder / f"uv-{UV_VERSION}" / program_name()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(f".data/scripts/{program_name()}"))
        part = target.with_name(target.name + ".part")
        with archive.open(inside) as source, open(part, "wb") as out:
            while block := source.read(1 << 20):
                out.write(block)
    part.chmod(0o755)
    moving.replace(part, target)
    return target


def obtain(
    folder: Path,
    system: str,
    machine: str,
    offline: Path | None = None,
    index: str = INDEX,
    on_part: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """uv's program under `folder`: the one there, else from the offline folder, else fetched from `index`.

    on_part(done, total) bytes; raises LgdError: cancelled, or setup_incomplete with what is missing.
    """
    name, sha256 = wheel_of(system, machine)
    target = folder / f"uv-{UV_VERSION}" / program_name()
    if target.is_file():
        return target
    if offline is not None:
        if not (offline / name).is_file():
            text = f"The offline folder has no {name}."
            raise LgdError("setup_incomplete", text, "Put it there, or choose venv and pip.")
        return unpack(offline / name, sha256, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        wheel = Path(scratch) / name
        try:
            _fetch(_address(index, name), wheel, on_part, should_stop)
        except (urllib.error.URLError, OSError, ValueError) as fault:
            reason = getattr(fault, "reason", fault)
            text = f"uv could not be fetched from {urllib.parse.urlsplit(index).netloc or index} ({reason})."
            raise LgdError(
                "setup_incomplete", text, "Check the network, or choose an offline folder."
            ) from fault
        return unpack(wheel, sha256, folder)


def context() -> ssl.SSLContext:
    """Whom to believe: whom the system does, and whom certifi does, which comes with Blender: its Python finds no certificates of a Mac's own."""
    found = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        found.load_verify_locations(importlib.import_module("certifi").where())
    return found


def _address(index: str, name: str) -> str:
    page = f"{index.rstrip('/')}/uv/"
    with urllib.request.urlopen(
        urllib.request.Request(page, headers=_AGENT), timeout=30, context=context()
    ) as reply:
        text = reply.read().decode("utf-8")
    try:
        links = [entry["url"] for entry in json.loads(text)["files"] if entry["filename"] == name]
    except ValueError:  # an index that speaks HTML alone
        links = [part.split('"')[0] for part in text.split('href="')[1:] if f"/{name}" in part.split('"')[0]]
    if not links:
        raise ValueError(f"the index has no {name}")
    return urllib.parse.urljoin(page, links[0].split("#")[0])


def _fetch(address: str, target: Path, on_part, should_stop) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": _AGENT["User-Agent"]})
    with urllib.request.urlopen(request, timeout=60, context=context()) as reply, open(target, "wb") as out:
        total, done = int(reply.headers.get("Content-Length") or 0), 0
        while block := reply.read1(1 << 18):  # what has come: a slow connection can be cancelled, too
            if should_stop():
                raise LgdError("cancelled")
            out.write(block)
            done += len(block)
            if on_part:
                on_part(done, max(total, done))
