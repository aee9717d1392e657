# SPDX-License-Identifier: GPL-3.0-or-later
"""Files put in their place, and folders removed, where Windows' rules hold."""

import ntpath
import os
import shutil

import pytest

from bridge import moving


def held(monkeypatch, times: int):
    """A Windows on which somebody has a file open for so many tries; the pauses between them are kept in a list."""
    real, pauses, tries = os.replace, [], []

    def replace(part, target):
        tries.append(part)
        if len(tries) <= times:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        real(part, target)

    monkeypatch.setattr(moving.os, "replace", replace)
    monkeypatch.setattr(moving.os, "name", "nt")
    monkeypatch.setattr(moving.time, "sleep", pauses.append)
    return pauses


def test_a_file_that_a_scanner_holds_for_a_moment_is_put_in_its_place(tmp_path, monkeypatch):
    part, target = str(tmp_path / "part"), str(tmp_path / "motion.npz")
    for path, text in ((part, "new"), (target, "old")):
        with open(path, "w") as file:
            file.write(text)
    pauses = held(monkeypatch, 3)
    moving.replace(part, target)
    with open(target) as file:
        assert file.read() == "new" and len(pauses) == 3


def test_one_that_stays_held_is_told_after_some_seconds(monkeypatch):
    pauses = held(monkeypatch, 99)
    with pytest.raises(PermissionError):
        moving.replace("part", "target")
    assert 1 < sum(pauses) < 3


def test_folders_of_long_paths_are_removed_by_their_unlimited_name(monkeypatch):
    gone = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: gone.append(path))
    monkeypatch.setattr(moving.os, "name", "nt")
    monkeypatch.setattr(moving.os, "path", ntpath)
    for folder in (r"C:\Users\J\env\venv", r"\\server\share\env", r"\\?\C:\env"):
        moving.remove(folder)
    assert gone == [r"\\?\C:\Users\J\env\venv", r"\\?\UNC\server\share\env", r"\\?\C:\env"]
