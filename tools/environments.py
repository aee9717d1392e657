# SPDX-License-Identifier: GPL-3.0-or-later
"""The developers' environments: .venv for the worker and the tests, .venvs/bpy-X.Y with Blender as a module."""

import ctypes
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Blender: (bpy's release, Python, what its metadata leaves open but its users have)
BLENDERS = {
    "4.2": ("4.2.23", "3.11", ("numpy==1.26.4",)),
    "4.5": ("4.5.15", "3.11", ()),
    "5.0": ("5.0.1", "3.11", ()),
    "5.2": ("5.2.3", "3.13", ()),
}
# library: its Debian package; what bpy, OpenCV and mediapipe link to, and EGL with a software renderer for previews
LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libgomp.so.1": "libgomp1",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
}
DRIVERS = ("/usr/lib/*/dri/swrast_dri.so", "/usr/lib/*/libgallium*.so")  # libgl1-mesa-dri
DROPPED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")


class SetupError(Exception):
    """What keeps an environment from being made, in a sentence."""


def groups() -> dict[str, list[str]]:
    """The dependency groups of pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["dependency-groups"]


def clean(**more: str) -> dict[str, str]:
    """This process's variables for another Python."""
    return {key: text for key, text in os.environ.items() if key not in DROPPED} | more


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_python(version: str) -> str | None:
    """A Python of a version, such as 3.13: this one, on PATH, pyenv's or uv's; None where none answers."""
    home = Path.home()
    tries = [sys.executable, shutil.which(f"python{version}") or "", f"/usr/bin/python{version}"]
    tries += sorted(glob.glob(str(home / f".pyenv/versions/{version}.*/bin/python{version}")), reverse=True)
    tries += sorted(glob.glob(str(home / f".local/share/uv/python/cpython-{version}.*/bin/python{version}")))
    for path in tries:
        if not path:
            continue
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, env=clean())
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    return None


def make(folder: Path, python: str, requirements: list[str], say=print) -> Path:
    """A virtual environment with these packages, made or completed; its stamp says when nothing is left to do."""
    stamp = folder / ".lgd-stamp"
    key = hashlib.sha256("\n".join([*sorted(requirements), python]).encode()).hexdigest()
    interpreter = python_of(folder)
    if interpreter.exists() and stamp.is_file() and stamp.read_text().strip() == key:
        return interpreter
    start = time.time()
    name = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    say(f"{name}: installing {', '.join(requirements)}")
    works = interpreter.exists() and not subprocess.call([interpreter, "-c", "pass"], env=clean())
    if not works:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if subprocess.call([python, "-m", "venv", str(folder)], env=clean()):
            raise SetupError(
                f"{python} cannot make an environment (on Debian: apt-get install python3-venv)."
            )
    log = folder / "install.log"
    command = [str(interpreter), "-m", "pip", "install", "--disable-pip-version-check", *requirements]
    with open(log, "w") as out:
        for _attempt in range(2):  # a broken connection is worth one more try
            if not subprocess.call(command, env=clean(), stdout=out, stderr=subprocess.STDOUT):
                break
        else:
            raise SetupError(f"Installing into {name} failed:\n{_tail(log)}")
    stamp.write_text(key + "\n")
    say(f"{name}: ready after {time.time() - start:.0f} s")
    return interpreter


def worker(say=print) -> Path:
    """The interpreter of .venv: what the worker needs, smplx and the developers' tools."""
    libraries(say)
    python = find_python("3.11")
    if python is None:
        raise SetupError(
            "Python 3.11 with venv is needed (on Debian 12: apt-get install python3 python3-venv)."
        )
    wanted = groups()
    names = [*wanted["worker"], *wanted["smplx"], *wanted["develop"]]
    stamp = ROOT / ".venv" / ".lgd-stamp"
    if not stamp.is_file():
        say("The developers' environment includes smplx, which comes under the SMPL-X licence of the")
        say(
            "Max-Planck-Gesellschaft (non-commercial research); installing it counts as accepting that licence."
        )
    interpreter = make(ROOT / ".venv", python, names, say)
    fetch = [str(interpreter), "-m", "bridge", "fetch"]
    if subprocess.call(fetch, env=clean(PYTHONPATH=str(ROOT)), stdout=subprocess.DEVNULL):
        say("The set-up goes on without it.")
    return interpreter


def blender(version: str, say=print) -> Path | None:
    """The interpreter of a Blender module; None where its Python is not at hand."""
    libraries(say)
    release, wanted, more = BLENDERS[version]
    python = find_python(wanted)
    if python is None:
        return None
    return make(
        ROOT / ".venvs" / f"bpy-{version}", python, [f"bpy=={release}", *more, *groups()["blender"]], say
    )


def missing_libraries() -> list[str]:
    """Debian packages of the system libraries that are not here; empty on other systems than Linux."""
    if not sys.platform.startswith("linux"):
        return []
    absent = []
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            absent.append(package)
    if not any(glob.glob(pattern) for pattern in DRIVERS):
        absent.append("libgl1-mesa-dri")
    return absent


_looked = False


def libraries(say=print) -> None:
    """Check the system libraries that Blender's module needs; as root on Debian, install them."""
    global _looked
    if _looked:
        return
    _looked = True
    absent = missing_libraries()
    if not absent:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *absent]
    if not (shutil.which("apt-get") and os.geteuid() == 0):
        say(f"These system libraries may be missing: {' '.join(absent)}. As root: {' '.join(command)}")
        return
    say(f"installing system libraries: {' '.join(absent)}")
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    if subprocess.call(command, **quiet):
        subprocess.call(["apt-get", "update"], **quiet)
        if subprocess.call(command, **quiet):
            say(f"They could not be installed: {' '.join(command)}")


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
