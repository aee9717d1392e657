# SPDX-License-Identifier: GPL-3.0-or-later
"""Strips of the sequencer in every version: own rate, trims, splits, retiming, meta strips, as Blender shows them."""

import bpy
import pytest
import strip_cases

from lgd_blender_addon.scene import footage, retiming, strips


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


def timeline():
    """The context of a sequencer's timeline."""
    window = bpy.context.window
    area = window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    region = next(r for r in area.regions if r.type == "WINDOW")
    return bpy.context.temp_override(window=window, area=area, region=region)


@pytest.mark.parametrize(("group", "least"), [("own_rate", 27), ("cut", 16), ("retimed", 37), ("nested", 13)])
def test_strips_show_what_we_say(films, group, least):
    desk = strip_cases.Desk(timeline, footage, films)
    for _ in strip_cases.GROUPS[group](desk):
        pass
    assert not desk.faults and len(desk.checked) >= least


def test_a_speed_that_cannot_be_read_is_refused(films, monkeypatch):
    """As in a later Blender whose strips have another structure."""
    desk = strip_cases.Desk(timeline, footage, films)
    monkeypatch.setattr(retiming, "_known", {})
    desk.compare("frame by frame", desk.add(own=False))
    desk.refuse("own rate", desk.add(), "cannot be read")
    strip = desk.add(own=False)
    desk.speed(50.0)
    desk.refuse("retimed", strip, "cannot be read")
    assert not desk.faults and len(desk.checked) == 3


def test_a_transition_between_speeds_is_refused(films, monkeypatch):
    """The keys are marked here: the operator that makes a transition needs one chosen with the pointer."""
    desk = strip_cases.Desk(timeline, footage, films)
    strip = desk.add()
    desk.speed(50.0)
    timing = retiming.read_timing(strip)
    marked = tuple(retiming.Key(key.index, key.factor, True) for key in timing.keys)
    monkeypatch.setattr(strips, "read_timing", lambda _: retiming.Timing(marked, timing.rate))
    desk.refuse("transition", strip, "speed transition")
    assert not desk.faults and len(marked) > 1
