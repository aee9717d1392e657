# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: the worker's Python, its set-up, device, body, detector and weights files, licence notes."""

import os
from pathlib import Path
from types import SimpleNamespace

import bpy
from bpy.props import EnumProperty, StringProperty

from . import _bridge, session
from .worker import environment
from .worker.requirements import PYTHONS

PROGRAM = r"bin/python, on Windows Scripts\python.exe"
WANTED = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
SMPLX_TEXT = (
    "smplx is a Python package of the Max-Planck-Gesellschaft, for non-commercial research only.",
    "Installing it counts as accepting its licence. Nothing in the add-on needs it, official SMPL files included:",
    "it is for scripts of your own that run in the worker's environment.",
)
DEFAULTS = {
    "interpreter_mode": "ENVIRONMENT",
    "python_path": "",
    "setup_python": "",
    "installer": "UV",
    "torch_build": "AUTO",
    "offline_folder": "",
    "device": "AUTO",
    "smplx_choice": "UNDECIDED",
    "body_neutral": "",
    "body_female": "",
    "body_male": "",
    "detector_file": "",
    "weights_video": "",
    "weights_paper": "",
}


def _changed(preferences, context) -> None:
    configure_session()


class LGD_AddonPreferences(bpy.types.AddonPreferences):
    """Settings of the add-on that belong to the computer rather than to a scene."""

    bl_idname = __package__

    interpreter_mode: EnumProperty(
        name="Worker's Python",
        description="The worker runs outside Blender, in a Python environment of its own",
        items=(
            ("ENVIRONMENT", "Made by the set-up", "The environment that the button below makes"),
            ("EXISTING", "Existing", "A Python of yours that has the packages"),
        ),
        default=DEFAULTS["interpreter_mode"],
        update=_changed,
    )
    python_path: StringProperty(
        name="Python",
        description=f"The interpreter that runs the worker (in a virtual environment: {PROGRAM})",
        subtype="FILE_PATH",
        update=_changed,
    )
    setup_python: StringProperty(
        name="Base Python",
        description=f"A Python {WANTED} to make the environment with; empty: one is looked for, or fetched",
        subtype="FILE_PATH",
    )
    installer: EnumProperty(
        name="Installer",
        description="What makes the environment",
        items=(
            (
                "UV",
                "uv",
                "Fetched on the click (about 18 MB, pinned and checked) or taken from the offline folder",
            ),
            ("PIP", "venv and pip", "Python's own; the base Python must have both"),
        ),
    )
    torch_build: EnumProperty(
        name="Build of torch",
        description="Which build of torch is installed",
        items=(
            ("AUTO", "By this computer's hardware", "CUDA, ROCm, MPS or the CPU, by what is found"),
            ("CPU", "CPU", "The smallest; runs everywhere"),
            ("CUDA", "CUDA", "NVIDIA cards"),
            ("ROCM", "ROCm", "AMD cards, on Linux"),
            ("MPS", "MPS", "Apple silicon"),
            ("PYPI", "PyPI's own", "What PyPI has for this system (Linux: CUDA, Windows: CPU, Mac: MPS)"),
        ),
    )
    offline_folder: StringProperty(
        name="Offline folder",
        description="A folder of wheels: with it the set-up asks nothing of the network",
        subtype="DIR_PATH",
    )
    device: EnumProperty(
        name="Device",
        description="What the fit runs on",
        items=(
            ("AUTO", "Automatic", "A card of NVIDIA or AMD where torch can use it, else the CPU"),
            ("CPU", "CPU", "The processor: works everywhere"),
            ("CUDA", "CUDA or ROCm", "A graphics card of NVIDIA or AMD"),
            ("MPS", "MPS", "The graphics of Apple's own chips"),
        ),
    )
    smplx_choice: EnumProperty(
        name="smplx",
        description="Whether the set-up installs smplx, whose licence is for non-commercial research",
        items=(
            ("UNDECIDED", "Please choose", "The set-up waits for your answer"),
            ("WITHOUT", "Do not install it", "Everything in the add-on works without it"),
            ("WITH", "I accept its licence: install it", "For scripts of your own in the worker's environment"),
        ),
        default="UNDECIDED",
    )
    body_neutral: StringProperty(
        name="Neutral", description="Your official SMPL file (.pkl or .npz), neutral", subtype="FILE_PATH"
    )
    body_female: StringProperty(
        name="Female", description="Your official SMPL file (.pkl or .npz), female", subtype="FILE_PATH"
    )
    body_male: StringProperty(
        name="Male", description="Your official SMPL file (.pkl or .npz), male", subtype="FILE_PATH"
    )
    detector_file: StringProperty(
        name="Detector",
        description="A detector in ONNX format that finds several people; empty: the default one, which follows one",
        subtype="FILE_PATH",
    )
    weights_video: StringProperty(
        name="Video",
        description="Weights of your own training for Video mode (best.pt, as `bridge train` leaves it); empty: those that ship",
        subtype="FILE_PATH",
    )
    weights_paper: StringProperty(
        name="Paper",
        description="Weights of your own training for Paper mode (best.pt, as `bridge train` leaves it); empty: those that ship",
        subtype="FILE_PATH",
    )

    def draw(self, context):
        """Blender draws the preferences by this."""
        from . import operators_setup

        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "interpreter_mode")
        if self.interpreter_mode == "EXISTING":
            layout.prop(self, "python_path")
        else:
            _draw_setup(layout, self)
        operators_setup.draw_progress(layout)
        row = layout.row(align=True)
        row.operator("lgd.setup_check")
        row.operator("lgd.setup_log")  # also of a set-up before Blender was started
        operators_setup.draw_findings(layout)
        layout.separator()
        layout.prop(self, "device")
        layout.prop(self, "detector_file")
        column = layout.column(heading="Official SMPL files")
        for name in ("body_neutral", "body_female", "body_male"):
            column.prop(self, name)
        column = layout.column(heading="Own weights")
        for name in ("weights_video", "weights_paper"):
            column.prop(self, name)
        notes = layout.column(align=True)
        notes.scale_y = 0.8
        for line in (
            "The default body is made from MakeHuman's CC0 assets. Official SMPL files have licences of their own;",
            "get them from smpl.is.tue.mpg.de. The add-on itself: GPL-3.0-or-later.",
        ):
            notes.label(text=line)


def _draw_setup(layout, preferences) -> None:
    box = layout.box()
    for line in SMPLX_TEXT:
        box.label(text=line)
    box.prop(preferences, "smplx_choice")
    layout.prop(preferences, "torch_build")
    layout.prop(preferences, "installer")
    layout.prop(preferences, "setup_python")
    layout.prop(preferences, "offline_folder")
    if not preferences.offline_folder and not bpy.app.online_access:
        layout.label(
            text="Blender may not go online: allow it in System, or name an offline folder.", icon="INTERNET"
        )
    row = layout.row(align=True)
    row.operator("lgd.setup_environment")
    row.operator("lgd.setup_repair")
    if environment.installed(environment_folder()):
        layout.label(text="The environment is set up.", icon="CHECKMARK")
    else:
        layout.label(text="The environment is not set up yet.", icon="INFO")


def get(context=None):
    """The add-on's preferences; their defaults where the add-on runs without being enabled (scripts, tests)."""
    context = context or bpy.context
    entry = context.preferences.addons.get(__package__)
    if entry is None or entry.preferences is None:
        return SimpleNamespace(**DEFAULTS)
    return entry.preferences


def user_folder() -> Path:
    """The add-on's own folder for the user's files: environment, jobs, logs, converted bodies."""
    named = os.environ.get("LGD_HOME")
    if named:
        return Path(named)
    try:  # made by who writes there, and tells where that fails: where Blender cannot make it, it gives no path at all
        return Path(bpy.utils.extension_path_user(__package__))
    except (ValueError, AttributeError):  # not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES", path="lgd_blender_addon"))


def environment_folder() -> Path:
    """Where the set-up makes the worker's environment."""
    return user_folder() / "env"


def worker_python(context=None) -> str:
    """The interpreter for the worker, empty where none is set up; LGD_PYTHON stands in where nothing is."""
    preferences = get(context)
    if preferences.interpreter_mode == "EXISTING":
        return bpy.path.abspath(preferences.python_path) if preferences.python_path else ""
    if environment.installed(environment_folder()):
        return str(environment.environment_python(environment_folder()))
    return os.environ.get("LGD_PYTHON", "")


def missing(context=None) -> str:
    """What keeps the worker from being started, in a sentence; empty where nothing does. Looks at files only."""
    python = worker_python(context)
    if not python:
        if get(context).interpreter_mode == "EXISTING":
            return "Name the worker's Python in the add-on's preferences."
        return "Set up the worker's Python in the add-on's preferences."
    if os.path.isdir(python):
        return f"The worker's Python {python} is a folder: name the program in it ({PROGRAM})."
    if not os.path.isfile(python):
        return f"The worker's Python {python} is not there: see the add-on's preferences."
    return ""


def body_files(context=None) -> dict[str, str]:
    """gender: path of the official SMPL files that the user named."""
    preferences = get(context)
    paths = {gender: getattr(preferences, f"body_{gender}") for gender in ("neutral", "female", "male")}
    return {gender: bpy.path.abspath(path) for gender, path in paths.items() if path}


def detector_file(context=None) -> str | None:
    """The detector's ONNX file, or None for the default detector."""
    path = get(context).detector_file
    return bpy.path.abspath(path) if path else None


def weights_file(mode: str, context=None) -> str | None:
    """The user's own weights for a mode (video, paper), or None for those that ship."""
    path = getattr(get(context), f"weights_{mode}")
    return bpy.path.abspath(path) if path else None


def device(context=None) -> str:
    """The device as requests name it."""
    return get(context).device.lower()


def configure_session(context=None) -> "session.Session":
    """Tell the session which interpreter and folders to use; starts nothing. Returns the session."""
    found = session.get()
    found.configure(worker_python(context), _bridge.FOLDER, user_folder())
    return found


CLASSES = (LGD_AddonPreferences,)
