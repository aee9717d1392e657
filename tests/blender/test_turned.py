# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos that a mark in their file turns upright, as phones make them: Blender before 4.5 shows them lying on their side."""

from dataclasses import replace

import bpy
import numpy as np
import pytest

from lgd_blender_addon.scene import footage as places


@pytest.fixture
def lying(script, monkeypatch):
    """A scripted worker that sees the pictures turned by a quarter from how this Blender shows them."""
    shown = places.with_footage
    monkeypatch.setattr(places, "with_footage", lambda *rest, **more: replace(shown(*rest, **more), size=(720, 1280)))
    return script


@pytest.mark.parametrize("operator", ["detect", "fit"])
def test_a_video_that_lies_on_its_side_is_told_of(lying, operator):
    assert getattr(bpy.ops.lgd, operator)() == {"FINISHED"}
    told = bpy.context.window_manager.lgd.warnings.splitlines()
    assert ["on its side" in text for text in told] == [True]


def test_an_upright_one_is_not(script, monkeypatch):
    shown = places.with_footage
    monkeypatch.setattr(places, "with_footage", lambda *rest, **more: replace(shown(*rest, **more), size=(1280, 720)))
    bpy.ops.lgd.fit()
    assert not bpy.context.window_manager.lgd.warnings


def test_solved_again_it_has_the_lens_that_was_found(lying):
    bpy.ops.lgd.fit()
    bpy.ops.lgd.fit()
    with np.load(lying.asked[-1][1]["camera"]) as camera:
        assert np.allclose(camera["cam_K"], [[1100, 0, 651.5], [0, 1100, 352.5], [0, 0, 1]], atol=0.01)
