# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the result plays, and how long a turn of the pump takes while frames stream in. Figures are printed."""

import time

import bpy
import numpy as np
import pytest
from models import write_motion

from lgd_blender_addon.scene import correctives, footage, result
from lgd_blender_addon.scene.motion import load_motion


@pytest.mark.parametrize("which", ["default_body", "official_body"])
def test_playback(which, request, tmp_path):
    body = request.getfixturevalue(which)
    motion = load_motion(write_motion(tmp_path / "m.npz", body, frames=60))
    shown = footage.Footage("FILE", "walk", "", 25.0, (1280, 720), 1, np.arange(60))
    scene = bpy.context.scene
    built = result.build(scene, motion, body, shown, result.Options(show_footage=False, correctives="OFF"))
    for mode in ("OFF", "LIVE", "BAKED") if correctives.has_correctives(built.mesh) else ("OFF",):
        correctives.set_mode(built.mesh, built.rig, mode)
        spent = []
        for frame in range(1, 61):
            began = time.perf_counter()
            scene.frame_set(frame)
            built.mesh.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.vertices[0].co.copy()
            spent.append(time.perf_counter() - began)
        print(
            f"\n{bpy.app.version_string}: {len(body.v_template)} vertices, correctives {mode}: {np.median(spent) * 1000:.1f} ms a frame"
        )
        assert np.median(spent) < 0.5


def test_turns_of_the_pump_stay_short(addon):
    from lgd_blender_addon import overlay
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import Plan

    shown = footage.Footage("FILE", "walk", "", 25.0, (1280, 720), 1, np.arange(3000))
    plan = Plan("Detect", bpy.context.scene.name, shown, result.Options(), [], build=False)
    run = pump.Run(plan)
    pump._run = run
    overlay.begin(shown)
    people = np.random.default_rng(0).uniform(0, 700, (4, 33, 3)).tolist()
    worst = 0.0
    for k in range(300):
        began = time.perf_counter()
        for frame in range(10):
            event = {
                "type": "keypoints",
                "frame": k * 10 + frame,
                "people": people,
                "layout": "blazepose33",
                "image_size": [1280, 720],
            }
            pump.on_event(None, event)
        pump.tick()
        worst = max(worst, time.perf_counter() - began)
    pump.cancel()
    print(f"\n{bpy.app.version_string}: longest turn {worst * 1000:.1f} ms, 10 frames of 4 people each")
    assert len(overlay.tracks.frames) == 3000 and worst < 0.05
