# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the Blender module: install the zip, point it to the worker's Python, solve the footage, save, render.

    python in_blender.py task.json

All of the work goes through the add-on's own operators; what is read from its modules is only for the table.
"""

import json
import math
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

ADDON = "bl_ext.user_default.lgd_blender_addon"
SHEET = 6  # frames on the contact sheet
FILM = 40  # frames of the short film
SIDE_METRES, SIDE_HEIGHT = 2.4, 1.0  # what the side view shows, and how high its middle is
LONGEST = 640  # px, the longer side of a rendered picture


def install(task: dict) -> None:
    """Install the zip as an extension and name the worker's Python, as a user would."""
    bpy.ops.wm.read_homefile(use_empty=True)
    done = bpy.ops.extensions.package_install_files(
        filepath=task["zip"], repo="user_default", enable_on_install=True
    )
    assert done == {"FINISHED"} and ADDON in bpy.context.preferences.addons, done
    preferences = bpy.context.preferences.addons[ADDON].preferences
    preferences.interpreter_mode = "EXISTING"
    preferences.python_path = task["python"]


class Refused(Exception):
    """The add-on's sentence on why it cannot solve this footage."""


def solve(task: dict):
    """Solve the footage; returns the add-on's run, from which the table's figures come."""
    pump = sys.modules[f"{ADDON}.operators.pump"]
    finish, runs = pump.finish, []

    def watched(run, *rest):
        runs.append(run)
        return finish(run, *rest)

    pump.finish = watched
    settings = bpy.context.scene.lgd
    settings.place = "FILE"
    settings.path = task["footage"]
    if task["mode"]:
        settings.mode = task["mode"].upper()
    if task["frames"]:
        first, last = (int(part) for part in task["frames"].split(":"))
        settings.range, settings.first, settings.last = "CUSTOM", first + 1, last
    assert bpy.ops.lgd.fit.poll(), "the button Solve Footage is grey"
    try:
        assert bpy.ops.lgd.fit() == {"FINISHED"}
    except RuntimeError as refused:  # what Blender would show in a pop-up
        raise Refused(str(refused).removeprefix("Error: ").strip()) from None
    pump.finish = finish
    return runs[0]


def curves_of(block):
    """The curves that move a block: those of its own slot where the version has slots."""
    data = block.animation_data if block else None
    if not data or not data.action:
        return []
    if not hasattr(data.action, "layers"):
        return list(data.action.fcurves)
    found = []
    for layer in data.action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(data.action_slot)
            found += list(bag.fcurves) if bag else []
    return found


def lowest_points(mesh, frames) -> list[float]:
    """The lowest vertex's height in m at some frames."""
    scene, heights = bpy.context.scene, []
    for frame in frames:
        scene.frame_set(int(frame), subframe=frame - int(frame))
        evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
        points = np.empty(len(evaluated.data.vertices) * 3, np.float32)
        evaluated.data.vertices.foreach_get("co", points)
        world = np.array(evaluated.matrix_world)
        heights.append(float((points.reshape(-1, 3) @ world[2, :3] + world[2, 3]).min()))
    return heights


def look() -> None:
    """Workbench: a plain shaded body on nothing."""
    scene = bpy.context.scene
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.view_settings.view_transform = "Standard"
    shading = scene.display.shading
    shading.light, shading.color_type, shading.single_color = "STUDIO", "SINGLE", (0.30, 0.55, 0.85)
    shading.show_cavity = True
    scene.display.render_aa = "FXAA"


def render(path: Path, frame: float) -> None:
    """Render one frame to a file."""
    scene = bpy.context.scene
    scene.frame_set(int(frame), subframe=frame - int(frame))
    scene.render.filepath = str(path)
    # Blender tells of each picture on standard output, and EGL on standard error that there is no screen.
    sys.stdout.flush()
    sys.stderr.flush()
    kept, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        bpy.ops.render.render(write_still=True)
    finally:
        for number, file in enumerate(kept, 1):
            os.dup2(file, number)
            os.close(file)
        os.close(null)


def side_camera():
    """A level camera from the world's +X; `preview.py` draws the ground, which it sees edge on."""
    data = bpy.data.cameras.new("side")
    data.type, data.ortho_scale = "ORTHO", SIDE_METRES
    camera = bpy.data.objects.new("side", data)
    camera.rotation_euler = (math.radians(90), 0, math.radians(90))
    bpy.context.scene.collection.objects.link(camera)
    return camera


def pictures(run, work: Path) -> list[int]:
    """Render the body from the solved camera and from the side; returns the footage frames (0-based in the take)."""
    scene, built = bpy.context.scene, run.built[0]
    count = built.rig.lgd.count or int(built.last - built.first) + 1
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(FILM, count))})
    step = (built.last - built.first) / max(count - 1, 1)
    look()
    width, height = built.rig.lgd.width, built.rig.lgd.height
    share = min(1.0, LONGEST / max(width, height))
    scene.render.resolution_x, scene.render.resolution_y = round(width * share), round(height * share)
    scene.render.resolution_percentage = 100
    scene.camera = built.camera
    for row in chosen:
        render(work / f"over_{row:05d}.png", built.first + row * step)
    camera = side_camera()
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = 480, 480
    for row in chosen:
        frame = built.first + row * step
        scene.frame_set(int(frame), subframe=frame - int(frame))
        pelvis = built.rig.matrix_world @ built.rig.pose.bones["pelvis"].head
        camera.location = Vector((pelvis.x + 10, pelvis.y, SIDE_HEIGHT))
        render(work / f"side_{row:05d}.png", frame)
    return chosen


def main() -> None:
    """The demo's part in Blender."""
    task = json.loads(Path(sys.argv[-1]).read_text())
    out, work = Path(task["out"]), Path(task["work"])
    install(task)
    start = time.time()
    run = solve(task)
    seconds = time.time() - start
    built = run.built[0]
    bpy.ops.lgd.set_scene_rate_and_range()
    bpy.context.scene.frame_set(int(built.first))
    bpy.context.preferences.filepaths.save_version = 0  # no demo.blend1
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "demo.blend"), compress=True)
    bpy.ops.file.make_paths_relative()  # the footage lies beside it
    settings = bpy.context.scene.lgd
    settings.path = bpy.path.relpath(settings.path)
    bpy.ops.wm.save_mainfile(compress=True)
    shutil.copyfile(run.fitted["motions"][0], out / "motion.npz")
    blocks = [
        built.rig,
        built.rig.data,
        built.mesh,
        built.mesh.data,
        built.mesh.data.shape_keys,
        built.camera,
    ]
    curves = [curve for block in blocks for curve in curves_of(block)]
    figure = run.fitted["figures"][0]
    with np.load(out / "motion.npz", allow_pickle=False) as motion:
        weights, fps = str(motion["weights"]), float(motion["mocap_framerate"])
    frames = np.linspace(built.first, built.last, min(40, figure["frames"]))
    lowest = np.percentile(lowest_points(built.mesh, frames), (5, 95)).tolist()
    chosen = pictures(run, work)
    figures = {
        "blender": bpy.app.version_string,
        "frames": figure["frames"],
        "size": [built.rig.lgd.width, built.rig.lgd.height],
        "fps": fps,
        "mode": figure["mode"],
        "weights": weights,
        "seconds": run.fitted["seconds"],
        "job_seconds": seconds,
        "reprojection_px": figure["reprojection_px"],
        "reprojection_px_95": figure["reprojection_px_95"],
        "focal": figure["focal"],
        "focal_source": figure["focal_source"],
        "keys": sum(len(curve.keyframe_points) for curve in curves),
        "curves": len(curves),
        "lowest": lowest,
        "warnings": run.warnings,
        "rows": chosen,
        "sheet": SHEET,
        "ground": 0.5 + SIDE_HEIGHT / SIDE_METRES,
    }
    (work / "figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except Refused as sentence:
        print(sentence, file=sys.stderr)
        code = 2
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        try:
            bpy.ops.preferences.addon_disable(module=ADDON)  # ends the worker and every timer
        except Exception:  # noqa: BLE001
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the module may crash when Python ends
