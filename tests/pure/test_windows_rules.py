# SPDX-License-Identifier: GPL-3.0-or-later
"""What would go wrong on Windows alone, by rules on the source and by its conditions made here."""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bridge import places

ROOT = Path(__file__).resolve().parents[2]


def whole_numbers(source: str) -> list[int]:
    """The lines in which numpy makes an array of Python's plain `int`."""
    makers = {"array", "asarray", "zeros", "ones", "full", "empty", "astype", "arange"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in makers
        and any(isinstance(given, ast.Name) and given.id == "int" for given in [*node.args, *(k.value for k in node.keywords)])
    ]  # fmt: skip


def test_what_torch_counts_by_has_64_bits_on_windows_too():
    """numpy 1's `int` has 32 bits there, and torch's one_hot, gather and scatter take 64 alone: no video was fitted."""
    assert whole_numbers("import numpy as np\nparents = np.zeros(3, int)\nx.astype(dtype=int)") == [2, 3]
    for folder in ("body", "lgd"):
        for path in (ROOT / "bridge" / folder).glob("*.py"):
            assert not whole_numbers(path.read_text("utf-8")), path


def test_a_step_apart_reads_its_input_beside_descriptor_0(tmp_path):
    """On Windows a library that looks at standard input while it is loaded waits for the thread that reads it (numpy's issue 24290)."""
    program = (
        "import json, os, sys\nfrom bridge.keypoints import apart\n"
        "class Colmap:\n    def extract(self, place):\n        open(place / 'read', 'w').write(repr(os.read(0, 1)))\n        return {}\n"
        "sys.modules['bridge.keypoints.colmap'] = apart.colmap = Colmap()\nimport bridge.keypoints\nbridge.keypoints.colmap = apart.colmap\napart.run()"
    )
    pytest.importorskip("numpy")
    job = f'{{"step": "extract", "place": {str(tmp_path)!r}, "out": {str(tmp_path / "out.npz")!r}, "call": {{}}}}\n'.replace("'", '"').replace("\\", "\\\\")
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=ROOT)
    process.stdin.write(job.encode())
    process.stdin.flush()  # and left open, as the worker does
    assert process.wait(30) == 0
    process.stdin.close()
    assert (tmp_path / "read").read_text() == "b''", "descriptor 0 is the pipe that the thread reads"


@pytest.mark.parametrize("name", ("J\u00f6rg", "\u5c71\u7530"))
def test_temporary_files_for_native_libraries_lie_under_no_name_beyond_ascii(name, monkeypatch, tmp_path):
    own, everybody = tmp_path / name / "Temp", tmp_path / "ProgramData"
    for folder in (own, everybody):
        folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    monkeypatch.setenv("ProgramData", str(everybody))
    monkeypatch.setattr(sys, "platform", "linux")
    assert places.plain_temporary() == own
    monkeypatch.setattr(sys, "platform", "win32")
    assert places.plain_temporary() == everybody / "lgd_blender_addon"
    folder = places.passing_folder("lgd-path-")
    assert folder.parent == everybody / "lgd_blender_addon"
    places.drop(folder)
    monkeypatch.setenv("ProgramData", str(tmp_path / "none" / "there"))
    monkeypatch.delenv("PUBLIC", raising=False)
    assert places.plain_temporary() == own


def test_mediapipe_finds_its_files_in_a_folder_that_it_can_open(monkeypatch, tmp_path):
    blazepose = pytest.importorskip("bridge.keypoints.blazepose")
    package = tmp_path / "J\u00f6rg" / "site-packages" / "mediapipe"
    for part in ("pose_detection", "pose_landmark", "face_mesh"):
        (package / "modules" / part).mkdir(parents=True)
        (package / "modules" / part / "net.tflite").touch()

    class Solution:
        __file__ = str(package / "python" / "solution_base.py")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    blazepose._show_files(Solution)
    assert Solution.__file__ == str(package / "python" / "solution_base.py")
    monkeypatch.setattr(sys, "platform", "win32")
    blazepose._show_files(Solution)
    assert Solution.__file__.isascii()
    plain = Path(Solution.__file__).parents[1]
    assert sorted(path.name for path in (plain / "modules").iterdir()) == ["pose_detection", "pose_landmark"]
    assert (plain / "modules" / "pose_landmark" / "net.tflite").is_file()
    before = Solution.__file__
    blazepose._show_files(Solution)  # once in a process
    assert Solution.__file__ == before
    places.drop_all()


@pytest.mark.skipif(os.name == "nt", reason="makes a link")
def test_the_cores_remarks_are_told_where_a_link_or_another_drive_leads_to_it(tmp_path):
    """As on Windows a network drive does, whose letter `resolve` takes for the share."""
    pytest.importorskip("numpy")
    (tmp_path / "link").symlink_to(ROOT, target_is_directory=True)
    program = (
        "import warnings\nfrom bridge.faults import translated\nfrom bridge import motion\ntold = []\n"
        "with translated(told.append):\n    exec(compile('import warnings; warnings.warn(\"A sentence.\")', motion.__file__, 'exec'))\nprint(told)"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(tmp_path / "link")}, cwd=tmp_path, capture_output=True, text=True)
    assert "A sentence." in done.stdout, done.stderr


def test_cancelling_the_set_up_on_windows_ends_what_a_step_has_started(monkeypatch):
    """venv starts ensurepip, which starts pip: ended alone, it would leave them with the files that the next try removes."""
    from lgd_blender_addon.worker import environment_install

    class Step:
        pid, ended = 4711, False

        def terminate(self):
            self.ended = True

    run = []
    monkeypatch.setattr(environment_install.sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run.append((command, options)))
    step = Step()
    environment_install.signal_tree(step, "SIGTERM")
    ((command, options),) = run
    assert command == ["taskkill", "/F", "/T", "/PID", "4711"] and options["creationflags"] and step.ended


def test_the_graphics_card_is_asked_for_where_blender_has_no_console(monkeypatch):
    """A program is given no standard input, which may not be handed on there (WinError 6): the CPU's torch would be taken without a word."""
    from lgd_blender_addon.worker import environment_hardware

    def run(command, **options):
        if options.get("stdin") != subprocess.DEVNULL:
            raise OSError(6, "The handle is invalid")
        return subprocess.CompletedProcess(command, 0, "answer")

    monkeypatch.setattr(environment_hardware.shutil, "which", lambda name: name)
    monkeypatch.setattr(environment_hardware.subprocess, "run", run)
    assert environment_hardware._printed("nvidia-smi", []) == "answer"


def test_the_console_of_windows_is_shown_no_escapes(monkeypatch):
    from importlib import util

    from bridge import cli

    def loaded():
        spec = util.spec_from_file_location("bridge.cli_again", cli.__file__)
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    assert "\x1b" in loaded().CLEAR or os.name == "nt"
    monkeypatch.setattr(os, "name", "nt")
    assert "\x1b" not in loaded().CLEAR


def test_a_python_in_program_files_is_named_as_a_terminal_takes_it(monkeypatch):
    from bridge.faults import translate

    monkeypatch.setattr(sys, "executable", "C:\\Program Files\\Python311\\python.exe")
    fault = translate(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert '"C:\\Program Files\\Python311\\python.exe" -m pip install' in fault.hint


def test_in_a_folder_of_onedrives_uv_copies(monkeypatch, tmp_path):
    from lgd_blender_addon.worker import environment
    from lgd_blender_addon.worker.environment_hardware import TorchBuild

    def mode_in(folder):
        folder.mkdir(parents=True)
        code = "import os; print('mode', os.environ.get('UV_LINK_MODE'))"
        setup = environment.Setup(environment.Plan(folder, TorchBuild("cpu", "cpu", "."), False))
        setup._command([sys.executable, "-c", code], "a step")
        return setup.log(1)[0]

    for name in ("OneDriveConsumer", "OneDriveCommercial"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("UV_LINK_MODE", raising=False)
    monkeypatch.setenv("OneDrive", str(tmp_path / "OneDrive - Studio"))
    assert mode_in(tmp_path / "OneDrive - Studio" / "Desktop" / "blender" / "env") == "mode copy"
    assert mode_in(tmp_path / "AppData" / "env") == "mode None"
