# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of torch suits the machine: one probe that runs programs, one choice made from what they printed."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass

NVIDIA_QUERY = ["--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader"]
PYTORCH_INDEX = "https://download.pytorch.org/whl/"
# CUDA build: (lowest driver on Linux, on Windows, lowest compute capability), newest first
CUDA_BUILDS = {"cu130": (580.0, 580.0, 7.5), "cu126": (525.6, 528.3, 5.0)}
ROCM_BUILD = "rocm7.2"
ROCM_LOWEST = (6, 0)
MAC_LOWEST = 14  # macOS, of torch's wheels
KINDS = ("cpu", "cuda", "rocm", "mps", "pypi")


@dataclass(frozen=True)
class Probe:
    """What was asked of the machine: system and machine as `platform` names them, and the printed answers or None."""

    system: str
    machine: str
    nvidia: str | None = None  # nvidia-smi with NVIDIA_QUERY
    rocm: str | None = None  # rocminfo
    rocm_version: str | None = None  # /opt/rocm/.info/version
    mac_version: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """A build of torch: kind (KINDS), the tag of PyTorch's index (empty: PyPI's own build) and why, in a sentence."""

    kind: str
    tag: str
    sentence: str

    @property
    def index(self) -> str | None:
        """The address of the index that has this build; None for PyPI's."""
        return PYTORCH_INDEX + self.tag if self.tag else None


def machine_name(machine: str) -> str:
    """x86_64 or arm64 for the names that systems give them."""
    name = machine.lower()
    return {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}.get(name, name)


def probe() -> Probe:
    """Ask this machine; each program gets ten seconds, and one that fails counts as absent."""
    rocm_version = None
    try:
        with open("/opt/rocm/.info/version", encoding="utf-8") as file:
            rocm_version = file.read(100)
    except OSError:
        pass
    return Probe(
        system=platform.system(),
        machine=machine_name(platform.machine()),
        nvidia=_printed("nvidia-smi", NVIDIA_QUERY),
        rocm=_printed("rocminfo", []),
        rocm_version=rocm_version,
        mac_version=platform.mac_ver()[0],
    )


def unsuited(found: Probe) -> str:
    """What keeps the pinned packages from a machine, in a sentence; empty for those that they have wheels for: Windows and Linux on x86_64, and
    macOS 14 on arm64 (torch's, onnxruntime's and pycolmap's of today; mediapipe has none for Linux or Windows on arm64)."""
    if found.system == "Darwin":
        if found.machine != "arm64":
            return "torch no longer comes for Macs with Intel processors."
        return f"macOS {found.mac_version} is too old for today's torch (needed: {MAC_LOWEST})." if 0 < _major(found.mac_version) < MAC_LOWEST else ""
    if found.machine != "x86_64":
        return f"mediapipe, which finds the people, does not come for {found.system} on {found.machine}."
    return ""


def _major(version: str) -> int:
    return int(version.split(".")[0]) if version[:1].isdigit() else 0


def choose(found: Probe, wanted: str = "auto") -> TorchBuild:
    """The build for a probe; `wanted` is auto or one of KINDS and is taken even where the probe does not show it."""
    if wanted == "pypi":
        return TorchBuild("pypi", "", "The build that PyPI has for this system was asked for.")
    cpu = "" if found.system == "Darwin" else "cpu"
    if found.system == "Darwin":
        return _mac(found, wanted)
    if wanted == "cpu":
        return TorchBuild("cpu", cpu, "The CPU was asked for.")
    cards = nvidia_cards(found.nvidia or "")
    if wanted == "cuda" or (wanted == "auto" and cards):
        return _cuda(found, cards, forced=wanted == "cuda")
    gpu = rocm_gpu(found.rocm or "")
    if wanted == "rocm" or (wanted == "auto" and gpu):
        return _rocm(found, gpu, forced=wanted == "rocm")
    return TorchBuild("cpu", cpu, "No graphics card that torch can use was found: the CPU build is taken.")


def nvidia_cards(text: str) -> list[tuple[str, float, float]]:
    """(name, driver version, compute capability) of each card in nvidia-smi's answer; lines of another form are left."""
    cards = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        driver = re.match(r"(\d+(?:\.\d+)?)", parts[1]) if len(parts) >= 3 else None
        capability = re.fullmatch(r"\d+\.\d+", parts[2]) if len(parts) >= 3 else None
        if driver and capability:
            cards.append((parts[0], float(driver.group(1)), float(capability.group())))
    return cards


def rocm_gpu(text: str) -> str:
    """The name of the first graphics agent in rocminfo's answer, empty for none."""
    for agent in re.split(r"\*{5,}\s*\n\s*Agent \d+", text):
        if re.search(r"Device Type:\s*GPU", agent):
            name = re.search(r"Marketing Name:\s*(.+)", agent)
            code = re.search(r"\bName:\s*(gfx\w+)", agent)
            return (name.group(1).strip() if name else "") or (code.group(1) if code else "AMD GPU")
    return ""


def _cuda(found: Probe, cards: list, forced: bool) -> TorchBuild:
    if not cards:
        return TorchBuild("cuda", "cu126", "CUDA was asked for, though nvidia-smi shows no card.")
    name, driver, _ = cards[0]
    capability = min(card[2] for card in cards)
    column = 1 if found.system == "Windows" else 0
    for tag, row in CUDA_BUILDS.items():
        if driver >= row[column] and capability >= row[2]:
            return TorchBuild("cuda", tag, f"{name} with driver {driver:g}: the CUDA build {tag} is taken.")
    lowest = CUDA_BUILDS["cu126"]
    if capability < lowest[2]:
        reason = f"{name} is too old for today's torch (compute capability {capability:g})"
    else:
        reason = f"The NVIDIA driver {driver:g} is too old (needed: {lowest[column]:g})"
    if forced:
        return TorchBuild("cuda", "cu126", f"{reason}; the CUDA build is taken because it was asked for.")
    return TorchBuild("cpu", "cpu", f"{reason}: the CPU build is taken.")


def _rocm(found: Probe, gpu: str, forced: bool) -> TorchBuild:
    if found.system != "Linux":
        return TorchBuild("cpu", "cpu", "torch for AMD cards comes for Linux alone: the CPU build is taken.")
    version = re.match(r"(\d+)\.(\d+)", found.rocm_version or "")
    if version and tuple(map(int, version.groups())) < ROCM_LOWEST and not forced:
        text = f"ROCm {version.group()} is too old (needed: 6.0): the CPU build is taken."
        return TorchBuild("cpu", "cpu", text)
    return TorchBuild("rocm", ROCM_BUILD, f"{gpu or 'An AMD card'}: the ROCm build {ROCM_BUILD} is taken.")


def _mac(found: Probe, wanted: str) -> TorchBuild:
    if found.machine != "arm64":
        return TorchBuild("cpu", "", "torch no longer comes for Macs with Intel processors.")
    if wanted == "cpu":
        return TorchBuild("cpu", "", "The CPU was asked for.")
    return TorchBuild("mps", "", "Apple silicon: PyPI's build, which has MPS, is taken.")


def _printed(program: str, arguments: list[str]) -> str | None:
    path = shutil.which(program)
    if path is None and os.name == "nt" and program == "nvidia-smi":
        old = os.path.expandvars(r"%ProgramFiles%\NVIDIA Corporation\NVSMI\nvidia-smi.exe")
        path = old if os.path.isfile(old) else None
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            stdin=subprocess.DEVNULL,  # Blender without a console may have none that can be handed on
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
