# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Pythons of a Windows machine and a Mac an environment is based on, by rules told what these have."""

import os
import subprocess

import pytest

from lgd_blender_addon.worker import environment, environment_python
from lgd_blender_addon.worker.environment_hardware import TorchBuild


@pytest.mark.parametrize("encoding", ("utf-8", "cp1252"))
def test_what_windows_launcher_prints_of_a_user_with_an_umlaut_is_read_in_either_encoding(encoding, monkeypatch):
    printed = " -V:3.11 *        C:\\Users\\J\u00f6rg\\python.exe\n".encode(encoding)
    monkeypatch.setattr(environment_python.os, "name", "nt")
    monkeypatch.setattr(environment_python.shutil, "which", lambda name: name)
    monkeypatch.setattr(environment_python.locale, "getencoding", lambda: "cp1252")

    def run(command, **options):
        assert options.get("stdin") is not None, "a window without a console has none to hand on"
        text = options.get("text") and printed.decode("utf-8")
        return subprocess.CompletedProcess(command, 0, text or printed)

    monkeypatch.setattr(environment_python.subprocess, "run", run)
    assert environment_python._launcher() == ["C:\\Users\\J\u00f6rg\\python.exe"]


def test_a_python_of_another_processor_does_not_suit():
    def suits(*about):
        return environment_python.Interpreter("p", (3, 11, 9), "PATH", environment_python.foreign(*about)).suits

    assert suits("arm64", "macosx-14.0-arm64") and suits("arm64", "macosx-10.9-universal2")
    assert not suits("x86_64", "macosx-10.9-x86_64") and not suits("x86_64", "macosx-10.9-universal2")
    assert suits("AMD64", "win-amd64") and suits("ARM64", "win-amd64") and not suits("ARM64", "win-arm64")
    assert suits("x86_64", "linux-x86_64")


def test_blenders_own_python_is_no_base_where_its_place_passes():
    for path in (
        r"C:\Program Files\WindowsApps\BlenderFoundation.Blender_4.5.3.0_x64__ppwjx1n5r4v9t\Blender\4.5\python\bin\python.exe",
        "/private/var/folders/x/T/AppTranslocation/0A/d/Blender.app/Contents/Resources/4.5/python/bin/python3.11",
        "/Volumes/Blender/Blender.app/Contents/Resources/4.5/python/bin/python3.11",
    ):
        assert environment_python.passing(path)
    for path in (
        r"C:\Program Files\Blender Foundation\Blender 4.5\4.5\python\bin\python.exe",
        "/Applications/Blender.app/Contents/Resources/4.5/python/bin/python3.11",
    ):
        assert not environment_python.passing(path)


def test_a_mac_is_searched_where_pythons_are_installed_and_not_asked_to_install_tools(monkeypatch):
    asked = []

    def which(name, path=None):
        asked.extend((path or "").split(os.pathsep))
        return f"/usr/bin/{name}" if name == "python3" else None

    monkeypatch.setattr(environment_python.sys, "platform", "darwin")
    monkeypatch.setattr(environment_python.shutil, "which", which)
    found = [path for path, _ in environment_python.candidates()]
    assert "/usr/bin/python3" not in found
    assert {"/opt/homebrew/bin", "/Library/Frameworks/Python.framework/Versions/3.12/bin"} <= set(asked)


def test_a_python_that_uv_fetches_is_the_environments_alone(monkeypatch, tmp_path):
    """It is not put on the user's PATH nor into Windows' registry, where it would stay when the environment is gone."""
    setup = environment.Setup(environment.Plan(tmp_path, TorchBuild("cpu", "cpu", "."), False))
    found, commands = [], []

    def command(line, what):
        commands.append(line)
        found.append(environment_python.Interpreter("python", (3, 11, 9), "uv"))

    monkeypatch.setattr(environment, "find", lambda folder: found)
    monkeypatch.setattr(setup, "_command", command)
    setup._do_python()
    assert {"--no-bin", "--no-registry"} <= set(commands[0])
