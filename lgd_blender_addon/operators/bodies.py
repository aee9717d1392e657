# SPDX-License-Identifier: GPL-3.0-or-later
"""The body files that the worker has described, kept in the user's folder so that later builds need no worker."""

import os
import re
import shutil
from pathlib import Path

import bpy

from .. import preferences
from .._bridge import FOLDER, LgdError, moving
from ..scene.body import Body, read_body
from ..scene.mesh import get_shape
from ..scene.result import skin_of

_described: dict[tuple, str] = {}


def _folder() -> Path:
    return preferences.user_folder() / "bodies"


def _key(path: str | None) -> tuple:
    file = Path(path) if path else FOLDER / "bridge" / "body" / "default_body.npz"
    try:
        found = file.stat()
        return (str(file), found.st_mtime, found.st_size)
    except OSError:
        return (str(file), 0, 0)


def _name(identity: str) -> str:
    return "blender-" + re.sub(r"[^A-Za-z0-9-]", "_", identity) + ".npz"


def known(path: str | None) -> str | None:
    """The file of a body that was described in this session, None where the worker must be asked."""
    file = _described.get(_key(path))
    return file if file and Path(file).exists() else None


def keep(path: str | None, described: dict) -> str:
    """Keep a described body by its id; returns the file that stays."""
    target = _folder() / _name(described["id"])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(Path(described["file"]), target)
    except OSError as error:
        raise LgdError(
            "disk", f"The body cannot be kept: {error.strerror}.", "Check the free space."
        ) from None
    _described[_key(path)] = str(target)
    return str(target)


def _move(file: Path, target: Path) -> None:
    # The pump waits for this: a rename costs nothing, a copy of some megabytes can be felt.
    try:
        os.replace(file, target)
    except OSError:  # the job's folder lies on another disk
        part = target.with_name(target.name + ".part")
        shutil.copyfile(file, part)
        moving.replace(part, target)


def find(identity: str) -> str | None:
    """The kept file of a body by its id."""
    target = _folder() / _name(identity)
    return str(target) if target.exists() else None


def leave_other_bodies(rigs: dict[int, int], body: str) -> list[str]:
    """Take out of {person: a rig's session_uid} the rigs that wear another body than the one in a kept file: new ones are made for
    their people. Returns what is to be told."""
    notes = []
    for person, uid in list(rigs.items()):
        rig = next((o for o in bpy.data.objects if o.session_uid == uid), None)
        skin = skin_of(rig) if rig is not None else None
        worn = skin.get("lgd_body") if skin is not None else None
        if worn and _name(worn) != Path(body).name:
            del rigs[person]
            notes.append(f"{rig.name} wears another body than the one that is chosen now: a new rig was made.")
    return notes


def kept_shapes(people: tuple[int, ...], rigs: dict[int, int]) -> list | None:
    """What a request says of the shapes that {person: a rig's session_uid} keep: the ten numbers of who is solved alone, of several people a list by
    their numbers, with None where a shape is new. Raises LgdError."""
    kept = {person: get_shape(skin_of(o)).tolist() for person, uid in rigs.items() for o in bpy.data.objects if o.session_uid == uid and skin_of(o)}
    if len(people) == 1 or not kept:
        return kept.get(people[0])
    return [kept.get(person) for person in range(max(people) + 1)]


def load(path: str) -> Body:
    """The Body in a kept file; raises LgdError."""
    try:
        return read_body(path)
    except (ValueError, KeyError) as error:
        if Path(path).parent == _folder():
            Path(path).unlink(missing_ok=True)  # so that the next solve asks the worker for it again
        raise LgdError("model_file", f"The body's file cannot be read: {error}.", "Solve again.") from None
