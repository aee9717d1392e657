# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in Blender's window: strips made, trimmed, retimed and nested by the operators show the frames we say."""

import tempfile

import bpy
import strip_cases
import window as w


def steps():
    yield from w.begin()
    area = w.area_of("VIEW_3D")
    area.type = "SEQUENCE_EDITOR"
    yield 0.5
    area.spaces.active.view_type = "SEQUENCER"
    yield 0.5
    desk = strip_cases.Desk(lambda: w.over(area), w.part("scene.footage"), tempfile.mkdtemp())
    for group in strip_cases.GROUPS.values():
        for _ in group(desk):
            yield 0.05
    with w.over(area):
        bpy.ops.sequencer.view_all()
    yield 0.5
    w.shot("strips")
    print(f"strips: {len(desk.checked)} compared, {sum(desk.checked.values())} frames; wrong: {desk.faults}")
    assert len(desk.checked) > 90 and not desk.faults, desk.faults


w.play(steps())
