# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels: they draw what properties hold, and do nothing else."""

from pathlib import Path

import blf
import bpy
from bl_operators.presets import AddPresetBase
from bpy.app.translations import pgettext_iface as iface

from . import preferences
from .operators import pump
from .operators.request import sequencer_scene
from .operators.run import no_footage, present_rig
from .scene import correctives, trust
from .scene.body import JOINTS
from .scene.footage import IMAGE_SUFFIXES
from .scene.result import CONFIDENCE_PROPERTY, ERROR_PROPERTY, skin_of

TAB = "LGD"


class LGD_UL_people(bpy.types.UIList):
    """The people that were found."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flag=0):
        """One person: tick, colour, number, frames, confidence."""
        layout.use_property_split = False
        row = layout.row(align=True)
        row.prop(item, "use", text="")
        colour = row.row()
        colour.scale_x = 0.3
        colour.prop(item, "colour", text="")
        row.label(text=iface("Person {:d}").format(item.person + 1), translate=False)
        moved = context.scene.lgd.start - data.people_start if data.people_move else 0
        row.label(text=f"{item.first + moved}-{item.last + moved}", translate=False)
        row.label(text=f"{item.confidence * 100:.0f} %", translate=False)


def _names_images(settings) -> bool:
    """Whether the chosen file is images rather than a video, by what it was when chosen, or its name (panels read no files)."""
    suffix = Path(settings.path.rstrip("/\\")).suffix.lower()
    return settings.is_folder or bool(settings.path) and (not suffix or suffix in IMAGE_SUFFIXES)


def draw_footage(layout, context) -> None:
    """Where the footage is, and which part of it is solved."""
    settings = context.scene.lgd
    layout.prop(settings, "place", text="From")
    if settings.place == "FILE":
        layout.prop(settings, "path", text="")
        if _names_images(settings):
            layout.prop(settings, "image_fps")
        layout.prop(settings, "start")
    elif settings.place == "CLIP":
        layout.prop_search(settings, "clip", bpy.data, "movieclips", text="")
        shown = not settings.clip and (getattr(context, "edit_movieclip", None) or context.scene.active_clip)
        if shown:
            layout.label(text=shown.name, icon="TRACKER", translate=False)
    elif settings.place == "STRIP":
        editor = sequencer_scene(context).sequence_editor
        strip = editor.active_strip if editor else None
        if strip is not None and strip.type == "META":
            _wrap(layout, iface("Meta strips cannot be read: open it (Tab)"), context, "ERROR")
        elif strip is not None:
            layout.label(text=strip.name, icon="SEQUENCE", translate=False)
    problem = no_footage(context)
    if problem:
        _wrap(layout.column(align=True), iface(problem), context, "INFO")
    layout.prop(settings, "range")
    if settings.range == "CUSTOM":
        column = layout.column(align=True)
        column.prop(settings, "first", text="First Frame")
        column.prop(settings, "last", text="Last")
    layout.prop(settings, "timing")


def draw_who(layout, context) -> None:
    """The people, or the boxes for a detector that follows one."""
    settings, show = context.scene.lgd, context.window_manager.lgd
    if len(show.people):
        layout.template_list(
            "LGD_UL_people", "", show, "people", show, "active_person", rows=min(max(len(show.people), 2), 6)
        )
    if preferences.detector_file(context) is None and not len(settings.boxes):
        text = (
            "The default detector follows one person at a time. Are there several? Say how many, or draw a box round one."
        )
        _wrap(layout.column(align=True), iface(text), context, "INFO")
    if preferences.detector_file(context) is None:
        row = layout.row()
        row.enabled = not len(settings.boxes)
        row.prop(settings, "look_for")
    layout.operator("lgd.pick_box", icon="SELECT_SET")
    if len(settings.boxes):
        column = layout.column(align=True)
        column.use_property_split = False
        column.label(text="Boxes: first and last frame, size in px")
        for index, box in enumerate(settings.boxes):
            row = column.row(align=True)
            row.prop(box, "first", text="")
            row.prop(box, "last", text="")
            row.label(text=f" {box.w:.0f} x {box.h:.0f}", translate=False)
            row.operator("lgd.clear_boxes", text="", icon="X").index = index
    if preferences.detector_file(context) is None:
        layout.prop(settings, "fast_detection")
    layout.prop(settings, "keypoints")
    if settings.keypoints:
        layout.operator("lgd.list_people", icon="COMMUNITY")
    layout.prop(settings, "show_overlay")


def draw_run(layout, context) -> None:
    """The buttons, or the running job."""
    show = context.window_manager.lgd
    if show.running:
        _draw_job(layout, show)
        return
    column = layout.column(align=True)
    column.scale_y = 1.5
    column.operator("lgd.fit", icon="ARMATURE_DATA")
    column = layout.column(align=True)
    column.operator("lgd.detect", icon="VIEWZOOM")
    column.operator("lgd.fit_keypoints", icon="OUTLINER_OB_ARMATURE")
    problem = preferences.missing(context)
    if problem:
        box = layout.box().column(align=True)
        _wrap(box, iface(problem), context, "ERROR")
        box.operator("lgd.open_preferences", icon="PREFERENCES")
    elif show.error:
        box = layout.box().column(align=True)
        _wrap(box, iface(show.error), context, "ERROR")
        if show.hint:
            _wrap(box, iface(show.hint), context, "BLANK1")
        if show.action and _exists(show.action):
            box.operator(show.action)
    if show.summary and (not show.rig or show.rig in bpy.data.objects):
        _wrap(layout.column(align=True), show.summary, context, "CHECKMARK")
    _draw_warnings(layout, show, context)


def _draw_job(layout, show) -> None:
    layout.label(text=iface(pump.STAGES.get(show.stage, show.title)), icon="SORTTIME", translate=False)
    layout.progress(factor=show.done / show.total if show.total else 0.0, text=pump.amount(show))
    layout.operator("lgd.cancel", icon="CANCEL")
    _draw_warnings(layout, show, bpy.context)


def _draw_warnings(layout, show, context) -> None:
    for text in show.warnings.splitlines():
        _wrap(layout.column(align=True), text, context, "INFO")


def _exists(name: str) -> bool:
    group, _, operator = name.partition(".")
    return hasattr(getattr(bpy.ops, group, None), operator) and f"{group.upper()}_OT_{operator}" in dir(
        bpy.types
    )


def _wrap(layout, text: str, context, icon: str = "NONE") -> None:
    """Lines of a width that the region shows."""
    scale = max(context.preferences.system.ui_scale, 0.5)
    width = (context.region.width if context.region else 260) / scale - (80 if icon != "NONE" else 60)
    layout.scale_y = 0.8
    blf.size(0, 11.5)
    line = ""
    for word in [*text.split(), None]:
        longer = f"{line} {word}".strip() if word else line
        if word is None or (line and blf.dimensions(0, longer)[0] > width):
            layout.label(text=line, icon=icon, translate=False)
            icon, line = "BLANK1" if icon != "NONE" else "NONE", word or ""
        else:
            line = longer


def draw_result(layout, context) -> None:
    """What one does with a solved rig."""
    rig = present_rig(context)
    if rig is None:
        _wrap(layout.column(align=True), iface("Solve footage, or select a solved rig"), context, "INFO")
        return
    layout.label(text=rig.name, icon="ARMATURE_DATA", translate=False)
    column = layout.column(align=True)
    for name, text in ((ERROR_PROPERTY, "Error (px)"), (CONFIDENCE_PROPERTY, "Confidence")):
        if name in rig:
            column.prop(rig, f'["{name}"]', text=text)
    sure = trust.at(rig, context.scene.frame_current_final)
    if sure:
        joint = min(sure, key=sure.__getitem__)
        row = column.row()
        row.label(text=iface("Least sure: {:s} {:.2f}").format(JOINTS[joint].replace("_", " "), sure[joint]), translate=False)
        row.operator("lgd.select_doubtful", text="", icon="RESTRICT_SELECT_OFF")
    column = layout.column(align=True)
    row = column.row(align=True)
    row.operator("lgd.next_bad_frame", text="Previous", icon="TRIA_LEFT").back = True
    row.operator("lgd.next_bad_frame", text="Next Bad", icon="TRIA_RIGHT").back = False
    column.prop(context.scene.lgd, "bad_pixels")
    skin = skin_of(rig)
    if skin is not None and correctives.has_correctives(skin):
        column = layout.column(align=True)
        column.label(text="Pose Correctives")
        row = column.row(align=True)
        mode = correctives.get_mode(skin)
        for name, text in (("OFF", "Off"), ("LIVE", "Live"), ("BAKED", "Baked")):
            row.operator("lgd.correctives", text=text, depress=mode == name).mode = name
    column = layout.column(align=True)
    column.operator("lgd.set_scene_rate_and_range", icon="SCENE_DATA")
    column.operator("lgd.new_shape", icon="MOD_CLOTH")
    column.operator("lgd.play_descent", icon="IPO_EASE_OUT")
    column.operator("lgd.export_motion", icon="EXPORT")


def draw_settings(layout, context) -> None:
    """How it is solved."""
    settings = context.scene.lgd
    row = layout.row(align=True)
    row.menu("LGD_MT_presets", text=LGD_MT_presets.bl_label)  # the chosen one, which the minus removes
    row.operator("lgd.preset_add", text="", icon="ADD")
    row.operator("lgd.preset_add", text="", icon="REMOVE").remove_active = True
    layout.prop(settings, "mode")
    if settings.mode == "PAPER":
        layout.prop(settings, "trace")
    layout.prop(settings, "camera")
    row = layout.row()
    row.enabled = settings.camera != "SCENE"  # a camera brings its own
    row.prop(settings, "focal")
    layout.prop(settings, "gender")
    layout.prop(settings, "plant_feet")
    layout.prop(settings, "correctives")
    layout.prop(settings, "bone_names")
    layout.operator("lgd.release_worker", icon="UNLINKED")


SECTIONS = (
    ("footage", "Footage", draw_footage, False),
    ("who", "Person", draw_who, True),
    ("settings", "Options", draw_settings, True),
    ("run", "Solve", draw_run, False),
    ("result", "Result", draw_result, False),
)
PLACES = (
    ("VIEW_3D", ""),
    ("SEQUENCE_EDITOR", "_strip"),
    ("CLIP_EDITOR", "_clip"),
    ("IMAGE_EDITOR", "_image"),
)


def _panel(space: str, ending: str, name: str, label: str, draw_section, closed: bool):
    """A panel class: one section in one editor's sidebar."""

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        draw_section(layout, context)

    identity = f"LGD_PT_{name}{ending}"
    return type(
        identity,
        (bpy.types.Panel,),
        {
            "bl_idname": identity, "bl_label": label, "bl_space_type": space, "bl_region_type": "UI", "bl_category": TAB,
            "bl_options": {"DEFAULT_CLOSED"} if closed else set(), "draw": draw, "__doc__": f"{label}, in the sidebar",
        },
    )  # fmt: skip


PANELS = tuple(_panel(space, ending, *section) for space, ending in PLACES for section in SECTIONS)


class LGD_MT_presets(bpy.types.Menu):
    """Kept settings"""

    bl_label = "Presets"
    preset_subdir = "lgd"
    preset_operator = "script.execute_preset"
    draw = bpy.types.Menu.draw_preset


class LGD_OT_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep the present settings as a preset, or remove the chosen one"""

    bl_idname = "lgd.preset_add"
    bl_label = "Keep as Preset"
    preset_menu = "LGD_MT_presets"
    preset_subdir = "lgd"
    preset_defines = ["settings = bpy.context.scene.lgd"]
    preset_values = [
        f"settings.{name}"
        for name in (
            "range",
            "timing",
            "mode",
            "focal",
            "camera",
            "gender",
            "correctives",
            "bone_names",
            "plant_feet",
            "trace",
            "fast_detection",
            "bad_pixels",
        )
    ]


CLASSES = (LGD_UL_people, LGD_MT_presets, LGD_OT_preset_add, *PANELS)
