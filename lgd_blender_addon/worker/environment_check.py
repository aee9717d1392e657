# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a Python fit to run the worker: each thing it needs with one sentence."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .._bridge import models
from .environment_python import ask, clean_environment
from .requirements import MODULES, PYTHONS

# Runs in the Python that is looked at; imports for real, since an installed package may not load.
PROGRAM = """
import importlib, importlib.metadata, json, os, sys
found = {}
for module, package in json.loads(sys.argv[1]).items():
    try:
        entry = importlib.import_module(module)
        version = getattr(entry, "__version__", None)
        if not version:
            version = importlib.metadata.version(package)
        found[module] = {"version": str(version)}
        if module == "torch":
            devices = ["cpu"]
            if entry.cuda.is_available():
                devices.append("cuda (%s)" % entry.cuda.get_device_name(0))
            if getattr(entry.backends, "mps", None) and entry.backends.mps.is_available():
                devices.append("mps")
            found[module]["devices"] = devices
        if module == "mediapipe":
            found[module]["folder"] = folder = list(entry.__path__)[0]
            if not os.path.isdir(os.path.join(folder, "python", "solutions")):
                raise ImportError("release " + str(version) + " has no default detector, 0.10.21 has: pip install mediapipe==0.10.21")
    except BaseException as fault:
        found[module] = {"fault": "%s: %s" % (type(fault).__name__, str(fault).strip().split(chr(10))[0][:200])}
sys.stdout.write("\\nLGD " + json.dumps(found) + "\\n")
"""
# Of torch's wheel for Windows, which needs MSVCP140.dll and does not bring it; Python brings VCRUNTIME140.dll alone.
LIBRARY_LACKING = r"WinError 126\b|DLL load failed"
REDISTRIBUTABLE = "Install Microsoft's Visual C++ Redistributable for x64, then press Set Up again."
TIMEOUT = 180  # s; the first import of torch from a slow disk


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its name, whether it is there, a sentence, and whether everything needs it."""

    name: str
    ok: bool
    sentence: str
    needed: bool = True


def complete(findings: list[Finding]) -> bool:
    """Whether nothing that everything needs is missing."""
    return bool(findings) and all(finding.ok for finding in findings if finding.needed)


def check(
    python: str | os.PathLike,
    bridge: Path | None = None,
    modules: dict[str, tuple[str, bool, str]] | None = None,
) -> list[Finding]:
    """Look at an interpreter: does it start, has it a version that suits, do the packages load, are our files there.

    bridge: the folder that holds `bridge/`, for weights and body (left out: not looked at). Takes seconds: call it in
    a thread.
    """
    modules = MODULES if modules is None else modules
    if not str(python):
        return [
            Finding("python", False, "No Python is chosen for the worker: run the set-up, or point to one.")
        ]
    interpreter = ask(python) if Path(python).is_file() else None
    if interpreter is None:
        there = "does not start as a Python" if Path(python).exists() else "is not there"
        return [Finding("python", False, f"{python} {there}: run the set-up, or point to another.")]
    version = ".".join(map(str, interpreter.version))
    wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    sentence = f"Python {version} is there." if interpreter.suits else ""
    sentence = sentence or f"Python {version} is not the version that the packages come for ({wanted})."
    # An interpreter of another version may still have all packages: what counts is that they load.
    findings = [Finding("python", interpreter.suits, sentence, needed=False)]
    loaded, fault = _load(python, modules)
    for module, (package, needed, purpose) in modules.items():
        entry = loaded.get(module, {"fault": fault})
        if "version" in entry:
            devices = f", devices: {', '.join(entry['devices'])}" if "devices" in entry else ""
            findings.append(
                Finding(package, True, f"{package} {entry['version']} is there{devices}.", needed)
            )
        elif entry["fault"].startswith("ModuleNotFoundError"):
            text = f"{package} is missing: it is needed for {purpose}."
            findings.append(Finding(package, False, text, needed))
        else:
            text = f"{package} does not load ({entry['fault']}); it is needed for {purpose}."
            if re.search(LIBRARY_LACKING, entry["fault"]):
                text += f" {REDISTRIBUTABLE}"
            findings.append(Finding(package, False, text, needed))
    if bridge is not None:
        findings += _files(bridge / "bridge")
        folder = loaded.get("mediapipe", {}).get("folder")
        if folder:
            findings.append(_large(python, Path(folder), bridge))
    return findings


def _files(folder: Path) -> list[Finding]:
    weights = sorted((folder / "lgd" / "weights").glob("*"))
    body = folder / "body" / "default_body.npz"
    return [
        Finding("weights", bool(weights), "The weights are there." if weights else
                "The weights are missing: install the add-on again."),
        Finding("body", body.is_file(), "The default body is there." if body.is_file() else
                "The default body is missing: install the add-on again."),
    ]  # fmt: skip


def _large(python: str | os.PathLike, mediapipe: Path, bridge: Path) -> Finding:
    if models.there(mediapipe):
        return Finding("blazepose", True, f"{models.NAME} is there.", needed=False)
    ways = f"Press Set Up. For a Python of your own, go to {bridge}. Run there: {_quoted(python)} -m bridge fetch"
    return Finding("blazepose", False, f"{models.NAME} is missing. {models.WITHOUT} {ways}", needed=False)


def _quoted(path: str | os.PathLike) -> str:
    """A path as a terminal takes it."""
    return f'"{path}"' if " " in str(path) else str(path)


def _load(python: str | os.PathLike, modules: dict) -> tuple[dict, str]:
    question = json.dumps({module: row[0] for module, row in modules.items()})
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", PROGRAM, question],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {TIMEOUT} s"
    except OSError as fault:
        return {}, str(fault)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("LGD "):
            return json.loads(line[4:]), ""
    tail = (done.stderr.strip().splitlines() or [""])[-1]
    return {}, f"Python ended with code {done.returncode} {tail}".strip()
