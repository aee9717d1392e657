# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the layers of tests, each in the environment it needs, and adds them up into one line and one exit code."""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from . import environments

ROOT = environments.ROOT
LAYERS = ("ruff", "pure", "worker", "torch", "blender")
LIMIT = 1500  # s for one layer


@dataclass
class Tally:
    """What a layer came to: counts, and names of what failed, was skipped or did not run."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add another's."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.names += other.names

    def line(self) -> str:
        """The counts in one line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run(layers: list[str], arguments: list[str] | None = None) -> int:
    """Run layers (none named: all but gui), print their summary; 1 where a test failed or none ran."""
    layers = layers or list(LAYERS)
    unknown = [layer for layer in layers if layer not in (*LAYERS, "gui")]
    if unknown:
        print(f"There is no layer {unknown[0]}; there are {', '.join(LAYERS)} and gui.")
        return 2
    total, start = Tally(), time.time()
    for layer in layers:
        total.add(_LAYERS[layer](arguments or []))
    return conclude(total, time.time() - start)


def conclude(total: Tally, seconds: float) -> int:
    """Print what did not run, by name, and the line that counts; returns the exit code."""
    if total.names:
        print("\nNot passed:")
        for name in total.names:
            print(f"  {name}")
    print(f"\n{seconds:.0f} s")
    print(total.line(), flush=True)
    return 1 if total.failed or not total.passed else 0


def pytest(name: str, python: Path, folder: Path, arguments: list[str], **variables: str) -> Tally:
    """Run pytest on a folder with an interpreter and read what it wrote; a crash counts as one failure."""
    print(f"\n== {name}", flush=True)
    start = time.time()
    with tempfile.TemporaryDirectory(prefix="lgd-tests-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-m", "pytest", str(folder), "-q", f"--junitxml={report}", *arguments]
        home = {"LGD_HOME": str(Path(scratch) / "home"), "PYTHONUTF8": "1"}
        try:
            code = subprocess.call(
                command, cwd=ROOT, env=environments.clean(**home, **variables), timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            code = -1
            print(f"{name} did not end within {LIMIT} s")
        tally = read(report, name)
    if code not in (0, 1, 5) or (code and not tally.failed):
        tally.failed += 1
        tally.names.append(f"FAILED  {name}: " + ("ran no test" if code == 5 else f"ended with code {code}"))
    print(f"{name}: {tally.line()} in {time.time() - start:.0f} s", flush=True)
    return tally


def read(report: Path, name: str) -> Tally:
    """Counts and names in pytest's XML; nothing where there is none."""
    tally = Tally()
    if not report.is_file():
        return tally
    for case in ElementTree.parse(report).iter("testcase"):
        label = f"{name}: {case.get('classname', '')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
            tally.names.append(f"FAILED  {label}")
        elif skip is not None:
            tally.skipped += 1
            tally.names.append(f"skipped {label} ({skip.get('message', '')})")
        else:
            tally.passed += 1
    return tally


def _ruff(arguments: list[str]) -> Tally:
    python = environments.worker()
    print("\n== ruff", flush=True)
    if subprocess.call([str(python), "-m", "ruff", "check", "."], cwd=ROOT):
        return Tally(failed=1, names=["FAILED  ruff check"])
    return Tally(passed=1)


def _torch_layers(name: str):
    def layer(arguments: list[str]) -> Tally:
        return pytest(name, environments.worker(), ROOT / "tests" / name, arguments)

    return layer


def _blender(arguments: list[str]) -> Tally:
    worker = environments.worker()
    tally = Tally()
    only = os.environ.get("LGD_BLENDERS", "").split()
    for version in environments.BLENDERS:
        if only and version not in only:
            continue
        name = f"blender {version}"
        python = environments.blender(version)
        if python is None:
            wanted = environments.BLENDERS[version][1]
            print(f"\n== {name}: did not run, Python {wanted} is not here")
            tally.skipped += 1
            tally.names.append(f"not run {name} (Python {wanted} is not here)")
            continue
        tally.add(pytest(name, python, ROOT / "tests" / "blender", arguments, LGD_PYTHON=str(worker)))
    return tally


def _gui(arguments: list[str]) -> Tally:
    sys.path.insert(0, str(ROOT / "tests" / "gui"))
    import chroot

    why = chroot.obstacle()
    if why:
        print(why)
        return Tally(skipped=1, names=[f"not run gui ({why})"])
    import build_addon

    environments.worker()  # by which the scenarios solve
    addon = build_addon.build()
    scenarios = sorted((ROOT / "tests" / "gui" / "scenarios").glob("test_*.py"))
    tally = Tally()
    for suite, version in chroot.SUITES.items():
        for scenario in scenarios:
            name = f"gui {version} {scenario.stem}"
            code, log = chroot.run(suite, scenario, ROOT / "demo_output" / "gui", addon)
            print(f"{name}: {'passed' if code == 0 else f'FAILED with code {code}, see {log}'}", flush=True)
            tally.add(Tally(passed=1) if code == 0 else Tally(failed=1, names=[f"FAILED  {name} ({log})"]))
    return tally


_LAYERS = {
    "ruff": _ruff,
    "pure": _torch_layers("pure"),
    "worker": _torch_layers("worker"),
    "torch": _torch_layers("torch"),
    "blender": _blender,
    "gui": _gui,
}
