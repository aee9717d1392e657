# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios share: steps that let Blender draw, editors, real clicks on the add-on's buttons, worker processes."""

import os
import sys
import time
import traceback
from pathlib import Path

import bpy
import lgd_gui

ADDON = "bl_ext.user_default.lgd_blender_addon"
FOOTAGE = os.path.join(os.environ["LGD_GUI_JOB"], "footage.mp4")
shot = lgd_gui.screenshot
_found: dict[str, tuple] = {}  # where a button was the last time


def part(name: str):
    """A module of the installed add-on."""
    return sys.modules[f"{ADDON}.{name}"]


def play(steps) -> None:
    """Run a generator of steps: each `yield` gives Blender so many seconds; its end is a pass."""

    def tick():
        try:
            return next(steps)
        except StopIteration:
            sys.stdout.flush()
            os._exit(0)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            sys.stdout.flush()
            shot("failed")
            os._exit(4)

    bpy.app.timers.register(tick, first_interval=1.5, persistent=True)


def begin():
    """Close the splash, when Blender has settled."""
    yield 1.5
    point(window().width // 2, window().height // 2)
    yield 0.3
    point(window().width // 2, window().height // 2, "ESC", "PRESS")
    point(window().width // 2, window().height // 2, "ESC", "RELEASE")
    yield 0.5


def until(done, seconds: float, what: str, every: float = 0.1):
    """Wait until `done()` holds; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        yield every


def window():
    """The one window."""
    return bpy.context.window_manager.windows[0]


def area_of(kind: str):
    """The largest editor of a type."""
    found = [area for area in window().screen.areas if area.type == kind]
    return max(found, key=lambda area: area.width * area.height)


def region_of(area, kind: str):
    """A region of an editor."""
    return next(region for region in area.regions if region.type == kind)


def over(area, kind: str = "WINDOW"):
    """Context of an editor's region."""
    return bpy.context.temp_override(window=window(), area=area, region=region_of(area, kind))


def split(area, factor: float, kind: str, direction: str = "VERTICAL"):
    """Split an editor; the new one, at its left or lower side, becomes of a type. Returns (new, old)."""
    before = set(window().screen.areas)
    with over(area):
        bpy.ops.screen.area_split(direction=direction, factor=factor)
    new = next(a for a in window().screen.areas if a not in before)
    first, second = sorted((new, area), key=lambda a: (a.x, a.y))
    first.type = kind
    return first, second


def sidebar(area, tab: str = "LGD"):
    """Open an editor's sidebar at a tab."""
    area.spaces.active.show_region_ui = True
    held = 0
    for _ in range(30):
        yield 0.2
        region = region_of(area, "UI")
        try:
            held = held + 1 if region.active_panel_category == tab else 0
            region.active_panel_category = tab
            region.tag_redraw()
        except (AttributeError, TypeError):  # not drawn yet
            continue
        if held > 2:
            yield 0.6
            return
    raise AssertionError(f"{area.type} shows no tab {tab}")


def point(x: int, y: int, kind: str = "MOUSEMOVE", value: str = "NOTHING", **keys):
    """One event at a place of the window."""
    window().event_simulate(type=kind, value=value, x=int(x), y=int(y), **keys)


def press(kind: str, area, **keys):
    """A key over an editor."""
    x, y = area.x + area.width // 3, area.y + area.height // 2
    point(x, y)
    yield 0.1
    point(x, y, kind, "PRESS", **keys)
    point(x, y, kind, "RELEASE", **keys)
    yield 0.5


def find_button(name: str, area):
    """Move over the sidebar until the button of an operator lies under the pointer; yields, returns (x, y)."""
    region = region_of(area, "UI")
    manager = bpy.context.window_manager
    rows = range(region.y + region.height - 12, region.y, -10)
    places = [(region.x + region.width * part, y) for part in (0.45, 0.2, 0.7, 0.85) for y in rows]
    for x, y in [_found[name], *places] if name in _found else places:
        point(x, y)
        yield 0.03
        manager.clipboard = ""
        with over(area, "UI"):
            if not bpy.ops.ui.copy_python_command_button.poll():
                continue
            try:
                bpy.ops.ui.copy_python_command_button()
            except RuntimeError:
                continue
        if f"bpy.ops.{name}(" in manager.clipboard:
            _found[name] = x, y
            return x, y
    raise AssertionError(f"no button {name} in the sidebar of {area.type}")


def click(name: str, area):
    """Press the button of an operator in an editor's sidebar, with the pointer, once the panels stand still."""
    place = None
    while True:
        yield 0.6
        found = yield from find_button(name, area)
        if found == place:
            break
        place = found
    point(*place, "LEFTMOUSE", "PRESS")
    yield 0.1
    point(*place, "LEFTMOUSE", "RELEASE")
    yield 0.1
    point(area.x + 60, area.y + 60)
    yield 0.1


def drag(area, start, end):
    """Drag from one place of an editor's region to another."""
    region = region_of(area, "WINDOW")
    (x0, y0), (x1, y1) = ((region.x + x, region.y + y) for x, y in (start, end))
    point(x0, y0)
    yield 0.1
    point(x0, y0, "LEFTMOUSE", "PRESS")
    yield 0.1
    for k in range(1, 6):
        point(x0 + (x1 - x0) * k / 5, y0 + (y1 - y0) * k / 5)
        yield 0.05


def workers() -> list[int]:
    """Process ids of the add-on's workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if b"run_module('bridge'" in line and state != "Z":
                found.append(int(entry.name))
    return found


def blocks() -> dict[str, int]:
    """How many data-blocks of each kind the file holds."""
    kinds = ("objects", "meshes", "armatures", "cameras", "actions", "collections", "images", "movieclips")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def choose(first: int = 1, last: int = 30) -> None:
    """Settings: the scenario's footage, some frames of it."""
    settings = bpy.context.scene.lgd
    settings.place, settings.path = "FILE", FOOTAGE
    settings.range, settings.first, settings.last = "CUSTOM", first, last


def show_movie(area):
    """Show the footage in an image editor, at the scene's frame."""
    image = bpy.data.images.load(FOOTAGE, check_existing=True)
    space = area.spaces.active
    space.image = image
    space.image_user.frame_duration = 1000
    space.image_user.use_auto_refresh = True
    yield 0.5
    with over(area):
        bpy.ops.image.view_all(fit_view=True)
    yield 0.3


class Watch:
    """Where the pump's time goes: each function's longest turn, in ms of the clock and of this thread's processor time."""

    def __init__(self, **functions):
        self.longest = {}
        for name, (owner, attribute) in functions.items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name, function):
        def timed(*values, **named):
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*values, **named)
            finally:
                turn = (1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu))
                self.longest.setdefault(name, []).append(turn)

        return timed

    def say(self, title: str) -> None:
        """Print and forget."""
        for name, turns in self.longest.items():
            wall, cpu = max(turns), max(t[1] for t in turns)
            print(
                f"  {title} {name}: {len(turns)} turns, longest {wall[0]:.1f} ms ({wall[1]:.1f} on the processor), most processor {cpu:.1f} ms"
            )
        self.longest.clear()
