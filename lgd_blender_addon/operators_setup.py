# SPDX-License-Identifier: GPL-3.0-or-later
"""Buttons of the preferences: set up the worker's environment, cancel, repair, check; and how they are drawn there."""

import threading
from pathlib import Path

import bpy

from . import _bridge, preferences
from .operators import pump as jobs
from .worker import environment

TICK = 0.25  # s
_setup: environment.Setup | None = None
_check: "_Check | None" = None


class _Check:
    """One look at an interpreter, in a thread."""

    def __init__(self, python: str):
        self.findings: list[environment.Finding] = []
        self.over = False
        self._python = python
        threading.Thread(target=self._run, name="lgd-check", daemon=True).start()

    def _run(self) -> None:
        try:
            self.findings = environment.check(self._python, _bridge.FOLDER)
        except Exception as fault:  # noqa: BLE001 (a thread's fault must reach the user)
            self.findings = [environment.Finding("check", False, f"The check failed: {fault}")]
        self.over = True


def current() -> environment.Setup | None:
    """The set-up that runs, or the last one."""
    return _setup


def findings() -> list[environment.Finding]:
    """What the last check found."""
    return _check.findings if _check and _check.over else []


def pump() -> bool:
    """Redraw the preferences; returns whether something still runs. The timer calls it, tests call it themselves."""
    running = bool((_setup and not _setup.over) or (_check and not _check.over))
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
    if not running and _setup and _setup.over:
        preferences.configure_session()
    return running


def _tick() -> float | None:
    return TICK if pump() else None


def _watch() -> None:
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK, persistent=True)


def _begin(operator, fresh: bool) -> set[str]:
    global _setup
    chosen = preferences.get()
    offline = Path(bpy.path.abspath(chosen.offline_folder)) if chosen.offline_folder else None
    if offline is None and not bpy.app.online_access:
        operator.report({"ERROR"}, "Blender may not go online: allow it in System, or name an offline folder")
        return {"CANCELLED"}
    if offline is not None and not offline.is_dir():
        operator.report({"ERROR"}, f"The offline folder {offline} is not there")
        return {"CANCELLED"}
    try:
        plan = environment.plan(
            preferences.environment_folder(),
            smplx=chosen.smplx_choice == "WITH",
            build=chosen.torch_build.lower(),
            installer=chosen.installer.lower(),
            python=bpy.path.abspath(chosen.setup_python) if chosen.setup_python else "",
            offline=offline,
            bridge=_bridge.FOLDER,
        )
    except _bridge.LgdError as fault:
        operator.report({"ERROR"}, fault.sentence())
        return {"CANCELLED"}
    ended = preferences.configure_session().release()  # a running worker would hold the files
    _setup = environment.Setup(plan, fresh, after=ended).start()
    _watch()
    return {"FINISHED"}


class _NeedsAnswer:
    @classmethod
    def poll(cls, context):
        """Grey while a set-up or a job runs, whose worker would be ended, or while the question about smplx is open."""
        if _setup and not _setup.over:
            cls.poll_message_set("The set-up is running")
            return False
        if jobs.current() is not None:
            cls.poll_message_set("A job is running: cancel it first")
            return False
        if preferences.get(context).smplx_choice == "UNDECIDED":
            cls.poll_message_set("Answer the question about smplx first")
            return False
        return True


class LGD_OT_setup_environment(_NeedsAnswer, bpy.types.Operator):
    """Make the worker's Python environment, or go on where it was left. Needs the network or an offline folder"""

    bl_idname = "lgd.setup_environment"
    bl_label = "Set Up"

    def execute(self, context):
        """Start; the preferences show how it goes."""
        return _begin(self, fresh=False)


class LGD_OT_setup_repair(_NeedsAnswer, bpy.types.Operator):
    """Remove the worker's Python environment and make it anew"""

    bl_idname = "lgd.setup_repair"
    bl_label = "Repair"

    def execute(self, context):
        """Start from nothing."""
        return _begin(self, fresh=True)


class LGD_OT_setup_cancel(bpy.types.Operator):
    """End the set-up; what is done stays, and Set Up goes on from there"""

    bl_idname = "lgd.setup_cancel"
    bl_label = "Cancel Set-Up"

    @classmethod
    def poll(cls, context):
        """Only while one runs."""
        if _setup and not _setup.over:
            return True
        cls.poll_message_set("No set-up runs")
        return False

    def execute(self, context):
        """Ask it to end."""
        if _setup:
            _setup.cancel()
        return {"FINISHED"}


class LGD_OT_setup_check(bpy.types.Operator):
    """Start the worker's Python and look whether everything it needs is there"""

    bl_idname = "lgd.setup_check"
    bl_label = "Check Set-Up"

    @classmethod
    def poll(cls, context):
        """Not twice at a time."""
        if (_check and not _check.over) or (_setup and not _setup.over):
            cls.poll_message_set("Wait for what is running")
            return False
        return True

    def execute(self, context):
        """Look, in a thread."""
        global _check
        _check = _Check(preferences.worker_python(context))
        _watch()
        return {"FINISHED"}


class LGD_OT_setup_log(bpy.types.Operator):
    """Show the whole log of the set-up in a text of this file"""

    bl_idname = "lgd.setup_log"
    bl_label = "Show Log"

    @classmethod
    def poll(cls, context):
        """Only where there is one."""
        if (preferences.environment_folder() / "setup.log").is_file():
            return True
        cls.poll_message_set("Nothing was set up yet, so there is no log")
        return False

    def execute(self, context):
        """Load the log as a text."""
        path = preferences.environment_folder() / "setup.log"
        name = "LGD set-up log"
        text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
        text.clear()
        text.write(path.read_text("utf-8", "replace"))
        self.report({"INFO"}, f"See the text '{name}' in the Text Editor")
        return {"FINISHED"}


class LGD_OT_open_preferences(bpy.types.Operator):
    """Open the add-on's preferences, where the worker's Python is set up"""

    bl_idname = "lgd.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, context):
        """Show them."""
        if bpy.app.background:
            self.report({"WARNING"}, "There is no window to show the preferences in")
            return {"CANCELLED"}
        try:
            bpy.ops.preferences.addon_show(module=__package__)
        except (RuntimeError, TypeError):
            bpy.ops.screen.userpref_show(section="ADDONS")
        return {"FINISHED"}


def draw_progress(layout) -> None:
    """The set-up's bar, last lines and buttons."""
    if _setup is None:
        return
    report = _setup.poll()
    column = layout.column(align=True)
    if not _setup.over:
        row = column.row(align=True)
        row.progress(factor=report.fraction, text=f"{report.fraction * 100:.0f} %")
        row.operator("lgd.setup_cancel", text="", icon="X")
    icon = {"FAILED": "ERROR", "DONE": "CHECKMARK", "CANCELLED": "CANCEL"}.get(report.state.value, "TIME")
    column.label(text=_short(report.line), icon=icon)
    if _setup.error:
        for sentence in filter(None, _setup.error.hint.split(". ")):  # a line each, so that none is cut short
            column.label(text=_short(sentence))
    box = column.box().column(align=True)
    box.scale_y = 0.7
    for line in _setup.log(6):
        box.label(text=_short(line), translate=False)


def draw_findings(layout) -> None:
    """What the last check found, a line each."""
    if _check and not _check.over:
        layout.label(text="Checking...", icon="TIME")
    column = layout.column(align=True)
    for finding in findings():
        icon = "CHECKMARK" if finding.ok else ("ERROR" if finding.needed else "INFO")
        for sentence in finding.sentence.split(". "):  # a line each, so that what to do is not cut out
            column.label(text=_short(sentence), icon=icon, translate=False)
            icon = "BLANK1"


def _short(line: str) -> str:
    return line if len(line) <= 140 else line[:100] + " ... " + line[-35:]


def unregister() -> None:
    """Stop watching, and end a set-up that runs. Registration calls it before the classes go, Blender when it quits."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _setup and not _setup.over:
        _setup.end()


CLASSES = (
    LGD_OT_setup_environment,
    LGD_OT_setup_repair,
    LGD_OT_setup_cancel,
    LGD_OT_setup_check,
    LGD_OT_setup_log,
    LGD_OT_open_preferences,
)
