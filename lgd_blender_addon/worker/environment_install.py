# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that install packages, with uv or pip, and sentences for what they say when they fail."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path

from .._bridge import LgdError
from .environment_hardware import PYTORCH_INDEX, TorchBuild


def install_command(
    python: Path,
    requirements: tuple[str, ...],
    constraints: Path,
    torch: TorchBuild | None = None,
    *,
    uv: Path | None = None,
    offline: Path | None = None,
) -> list[str]:
    """The command line; `torch` where torch itself is installed, `uv` None for pip, `offline` a folder of wheels."""
    if uv:
        command = [str(uv), "pip", "install", "--no-config", "--python", str(python)]
    else:
        command = [str(python), "-I", "-m", "pip", "install"]
    command += ["--only-binary", ":all:", "--constraint", str(constraints)]
    if offline is not None:
        command += ["--no-index", "--find-links", str(offline)]
        command += ["--offline"] if uv else []
    elif torch is not None and torch.tag:
        # PyTorch's own index has what torch needs beside it, so pip asks no other.
        command += ["--torch-backend", torch.tag] if uv else ["--index-url", str(torch.index)]
    return [*command, *requirements]


def synchronised(folder: Path) -> bool:
    """Whether OneDrive keeps a folder, as one of a portable Blender on the desktop: hard links, which uv makes, fail there (os error 396)."""
    roots = [os.environ.get(name) for name in ("OneDrive", "OneDriveConsumer", "OneDriveCommercial")]
    return any(Path(root) in folder.parents for root in roots if root)


def signal_tree(process: subprocess.Popen, name: str) -> None:
    """Signal a step and what it has started (venv starts ensurepip, which starts pip); on Windows, which has no groups, end them."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            # Not `terminate` alone, which leaves what it has started: that holds files which the next try is to remove.
            tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True, stdin=subprocess.DEVNULL, creationflags=subprocess.CREATE_NO_WINDOW)
            process.terminate()
        else:
            os.killpg(process.pid, getattr(signal, name))


def missing_wheels(folder: Path, requirements: tuple[str, ...], version: tuple[int, int, int]) -> list[str]:
    """Those pinned requirements of which a folder has no wheel for a Python's version, as 'name version'."""
    there = [entry.name for entry in folder.glob("*.whl")] if folder.is_dir() else []
    missing = []
    for requirement in requirements:
        name, _, wanted = requirement.partition("==")
        stem = re.sub(r"[-_.]+", "_", name).lower()
        for file in there:
            parts = file[:-4].split("-")
            if len(parts) < 5 or re.sub(r"[-_.]+", "_", parts[0]).lower() != stem:
                continue
            if wanted and parts[1].split("+")[0] != wanted:
                continue
            if _suits(parts[-3], parts[-2], version):
                break
        else:
            missing.append(f"{name} {wanted}".strip())
    return missing


def _suits(tags: str, abi: str, version: tuple[int, int, int]) -> bool:
    for tag in tags.split("."):
        match = re.fullmatch(r"(py|cp)(\d)(\d*)", tag)
        if not match or int(match.group(2)) != version[0] and match.group(1) != "py":
            continue
        minor = int(match.group(3) or 0)
        if match.group(1) == "py" and minor <= version[1]:
            return True
        if match.group(1) == "cp" and (minor == version[1] or ("abi3" in abi and minor <= version[1])):
            return True
    return False


_UNREACHED = (
    r"dns error|[Cc]ould not connect|Connection refused|Network is unreachable|Temporary failure in name|"
    r"[Ff]ailed to fetch|Max retries exceeded|connection broken by|timed out"
)
# Where the host stands in what uv and pip print, the surest first: pip names its index before it fails.
_HOSTS = (r"[Ff]ailed to (?:fetch|download):? [`']?https?://([^/\s`']+)", r"for url \(https?://([^/\s)]+)",
          r"host='([^']+)'", r"Connection to (\S+) timed out", r"Looking in indexes: https?://([^/\s,]+)")  # fmt: skip


def _unreached(what: str, text: str, again: str) -> LgdError:
    """That a host did not answer, by its name where one was printed, and what does without it."""
    found = next((match[1] for match in (re.search(pattern, text) for pattern in _HOSTS) if match), "")
    host = found.rpartition("@")[2]  # an index may have a name and a password before it
    told = f"{host or 'The network'} could not be reached, or gave no answer."
    ways = ["let it through the firewall" if host else "Check the network", "name an Offline folder of wheels in the preferences"]
    if host and host == urllib.parse.urlsplit(PYTORCH_INDEX).netloc:
        ways.insert(1, "set Build of torch to PyPI's own")
    elif what == "python":
        ways.insert(1, "name a Base Python")
    hint = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return LgdError("setup_incomplete", told, f"{hint[0].upper()}{hint[1:]} {again}")


def explain(what: str, printed: list[str], code: int, offline: Path | None, log: Path) -> LgdError:
    """An LgdError with one sentence for what a failed command printed."""
    text = "\n".join(printed)
    again = f"Then press Set Up again: it goes on from here. Log: {log}"
    if offline is None and re.search(_UNREACHED, text):  # before the others: pip says at the end that there is no wheel
        return _unreached(what, text, again)
    where = f"The offline folder {offline}" if offline else "The package index"
    lack, get = "{where} has no wheel of {0}", "Add it to the folder." if offline else "Choose another Base Python, or another Build of torch."
    rules = (
        (r"No matching distribution found for (\S+)", lack + " that suits.", get),
        (r"Because (\S+) was not found in the (?:cache|provided package locations)", lack + ".", get),
        (r"no matching distributions available for your environment:\s+(\S+)", lack + ".", get),
        (r"no version of ([^\s,]+)", lack + ".", get),
        (r"Because ([\w.-]+?)(?:==\S+)? has no wheels with a matching", lack + " for this system.", get),
        (r"[Nn]o space left on device|not enough space|\bENOSPC\b|WinError 112\b|os error 112\b", "The disk is full.", "Free some gigabytes."),
        (r"Long Path support", "The environment's folder has too long a name for pip on this Windows.", "Choose uv as the Installer."),
        # By number, too: Windows tells the rest in its user's language.
        (r"Permission denied|Access is denied|WinError (?:5|32)\b|(?<!Input/output error) \(os error 5\)|(?<!Broken pipe) \(os error 32\)", "A file could not be written: access was denied.", "Close what uses the environment, and look whether you may write there."),
        (r"No module named (?:venv|ensurepip|pip)|ensurepip is not", "This Python cannot make environments (it lacks venv or pip).", "Choose uv as the Installer."),
    )  # fmt: skip
    for pattern, sentence, way in rules:
        match = re.search(pattern, text)
        if match:
            found = sentence.format(*match.groups(), where=where)
            return LgdError("setup_incomplete", found, f"{way} {again}")
    last = printed[-1] if printed else f"exit code {code}"
    return LgdError("setup_incomplete", f"Installing ({what}) failed: {last}", f"The log: {log}")
