# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on as Blender meets it: registration, polls, panels that draw, errors and their buttons."""

import ast
import time
from pathlib import Path

import bpy
import pytest


def test_registers_twice_and_leaves_nothing():
    import lgd_blender_addon

    lgd_blender_addon.register()
    lgd_blender_addon.unregister()
    began = time.perf_counter()
    lgd_blender_addon.register()
    seconds = time.perf_counter() - began
    print(f"\n{bpy.app.version_string}: registration {seconds * 1000:.1f} ms")
    assert hasattr(bpy.context.scene, "lgd") and hasattr(bpy.context.window_manager, "lgd")
    lgd_blender_addon.unregister()
    assert not hasattr(bpy.context.scene, "lgd")
    assert not [h for h in bpy.app.handlers.load_pre if "lgd" in h.__module__]
    left = [n for n in dir(bpy.types) if n.startswith("LGD_")]
    assert not left
    assert seconds < 0.1


def test_imports_no_bpy_before_register():
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import lgd_blender_addon; print('bpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_every_action_of_an_error_is_an_operator(addon):
    from lgd_blender_addon._bridge import errors

    root = Path(__file__).resolve().parents[2]
    named = {row[3] for row in errors.TABLE.values() if row[3]}
    for file in [*root.glob("bridge/**/*.py"), *root.glob("lgd_blender_addon/**/*.py")]:
        for call in (n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.Call)):
            if getattr(call.func, "id", "") == "LgdError" and len(call.args) > 3 and isinstance(call.args[3], ast.Constant):
                named.add(call.args[3].value)
    assert len(named) > 2
    for action in named:
        group, name = action.split(".")
        assert f"{group.upper()}_OT_{name}" in dir(bpy.types), action


def test_buttons_are_grey_without_setup_or_footage(addon, monkeypatch):
    monkeypatch.delenv("LGD_PYTHON", raising=False)
    assert not bpy.ops.lgd.fit.poll()
    assert not bpy.ops.lgd.cancel.poll()
    assert not bpy.ops.lgd.next_bad_frame.poll()
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.lgd.fit()


class _Layout:
    """Stands in for UILayout, which exists only in a window: takes every call, and checks names of properties."""

    def __getattr__(self, name):
        return _Layout() if name in ("x",) else self._call

    def __setattr__(self, name, value):
        pass

    def _call(self, *args, **kwargs):
        return _Layout()

    def prop(self, data, name, **kwargs):
        assert name.startswith("[") or hasattr(data, name), name

    def operator(self, name, **kwargs):
        group, rest = name.split(".")
        assert f"{group.upper()}_OT_{rest}" in dir(bpy.types), name

        class Properties:
            pass

        return Properties()


def test_panels_draw_in_every_state(addon):
    from lgd_blender_addon import panels

    show, settings = bpy.context.window_manager.lgd, bpy.context.scene.lgd
    for place in ("STRIP", "CLIP", "CAMERA", "FILE"):
        settings.place = place
        for running in (False, True):
            show.running = running
            show.warnings, show.error, show.hint, show.action = (
                "One two.\nThree.",
                "Bad.",
                "Do this.",
                "lgd.restart_worker",
            )
            for _, _, draw, _ in panels.SECTIONS:
                draw(_Layout(), bpy.context)
    show.running = False


def test_settings_survive_saving(addon, tmp_path):
    settings = bpy.context.scene.lgd
    settings.place, settings.focal, settings.timing = "STRIP", 1234.0, "REAL"
    box = settings.boxes.add()
    box.x, box.first = 12.0, 7
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "s.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    assert bpy.context.scene.lgd.focal == 0.0
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "s.blend"))
    settings = bpy.context.scene.lgd
    assert (settings.place, settings.focal, settings.timing, settings.boxes[0].first) == (
        "STRIP",
        1234.0,
        "REAL",
        7,
    )


def test_scene_rates():
    from lgd_blender_addon.operators.result import nearest_rate

    for fps, wanted in (
        (29.97002997, (30, 1.001)),
        (23.976, (24, 1.001)),
        (25, (25, 1.0)),
        (59.94, (60, 1.001)),
        (5, (5, 1.0)),
    ):
        assert nearest_rate(fps) == wanted
    whole, base = nearest_rate(12.5)
    assert abs(whole / base - 12.5) < 1e-9
