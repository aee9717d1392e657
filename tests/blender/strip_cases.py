# SPDX-License-Identifier: GPL-3.0-or-later
"""Strips made, trimmed, retimed and nested by Blender's own operators: what it shows of them against what we say.

Runs in the modules (test_strips.py) and in windows (tests/gui/scenarios/test_strips.py). A movie's pictures hold their
number in bars; what Blender renders is read back and compared with the table of `scene/footage.py`, frame by frame in
the order of play.
"""

import bpy
import movies

COUNT = 48
START = 5
RATE, SCENE_RATE = (60, 1.001), (30, 1.001)
OWN_RATES = ((25, 1), (60, 1.001), (5, 1))
SCENE_RATES = ((24, 1), (30, 1.001), (60, 1))


class Desk:
    """A sequencer to work in. over(): context of its timeline; footage: `scene/footage.py`; films: a folder."""

    def __init__(self, over, footage, films):
        self.over, self.footage, self.films = over, footage, films
        self.faults: list[str] = []
        self.checked: dict[str, int] = {}

    @property
    def scene(self):
        """The scene."""
        return bpy.context.scene

    def clear(self, rate) -> None:
        """No strip, and a scene of a rate whose picture is the movies' own."""
        scene = self.scene
        scene.sequence_editor_clear()
        movies.sequences(scene)
        if hasattr(bpy.context.workspace, "sequencer_scene"):
            bpy.context.workspace.sequencer_scene = scene
        scene.render.fps, scene.render.fps_base = rate
        scene.render.resolution_x, scene.render.resolution_y = movies.WIDTH, movies.HEIGHT

    def do(self, operator: str, **values) -> None:
        """An operator of the sequencer, with those of the options that it has in this version."""
        function = getattr(bpy.ops.sequencer, operator)
        known = function.get_rna_type().properties
        with self.over():
            done = function(**{name: value for name, value in values.items() if name in known})
        assert done == {"FINISHED"}, (operator, done)

    def add(self, rate=RATE, scene_rate=SCENE_RATE, own=True):
        """A movie strip; with `own` it plays at the file's rate."""
        self.clear(scene_rate)
        path = movies.make_movie(self.films, COUNT, rate)
        # Since 5.0 a new strip is moved with the pointer, and the module crashes for want of one.
        self.do(
            "movie_strip_add", filepath=path, frame_start=START, channel=1, sound=False, use_framerate=False,
            adjust_playback_rate=own, move_strips=False,
        )  # fmt: skip
        return self.scene.sequence_editor.active_strip

    def add_images(self):
        """A strip of images."""
        self.clear((24, 1))
        folder = movies.make_frames(self.films, COUNT)
        files = [{"name": name} for name in sorted(f.name for f in folder.iterdir())]
        self.do(
            "image_strip_add", directory=str(folder), files=files, frame_start=START, frame_end=START + COUNT,
            length=COUNT, channel=1, move_strips=False,
        )  # fmt: skip
        return self.scene.sequence_editor.active_strip

    def compare(self, name: str, strip, least: int = 4) -> None:
        """Blender's picture on each frame of a strip against our table."""
        try:
            found = self.footage.from_strip(self.scene, strip)
        except self.footage.LgdError as error:
            print(f"{name}: refused: {error.text}")
            self.faults.append(name)
            return
        frames = list(range(found.start, found.start + len(found.table)))
        shown = movies.displayed(self.scene, frames)
        ours = [int(source) for source in found.table]
        wrong = [row for row in zip(frames, ours, shown) if row[1] != row[2]]
        self.checked[name] = len(frames)
        more = f", (frame, ours, Blender's) {wrong[:6]}" if wrong else ""
        print(f"{name}: {len(frames)} frames, {len(wrong)} wrong{more}")
        if wrong or len(frames) < least:
            self.faults.append(name)

    def refuse(self, name: str, strip, word: str) -> None:
        """A strip that cannot be read is refused in a sentence that names the reason."""
        try:
            self.footage.from_strip(self.scene, strip)
        except self.footage.LgdError as error:
            print(f"{name}: {error.text} {error.hint}")
            self.checked[name] = 0
            if word not in error.text:
                self.faults.append(name)
            return
        print(f"{name}: was not refused")
        self.faults.append(name)

    def speed(self, percent: float) -> None:
        """Set the active strip's speed."""
        self.do("retiming_segment_speed_set", speed=percent)


def handles(strip, left: int, right: int) -> None:
    """Trim a strip at both ends."""
    strip.frame_final_start += left
    strip.frame_final_end -= right


def own_rate(desk):
    """Strips that play at their file's rate, in scenes of other rates."""
    for rate in OWN_RATES:
        for scene_rate in SCENE_RATES:
            strip = desk.add(rate, scene_rate)
            label = f"{rate[0] / rate[1]:.4g} in {scene_rate[0] / scene_rate[1]:.4g}"
            desk.compare(f"own rate, {label}", strip)
            strip.use_reverse_frames = True
            desk.compare(f"own rate, reversed, {label}", strip)
            strip.use_reverse_frames = False
            handles(strip, 6, 4)
            desk.compare(f"own rate, trimmed, {label}", strip, 3)
            yield


def cut(desk):
    """Slips, splits, hard trims, strobe, places between frames."""
    for own in (False, True):
        label = "own rate" if own else "frame by frame"
        strip = desk.add(own=own)
        desk.do("slip", offset=-4)
        desk.compare(f"slipped, {label}", strip)
        strip = desk.add(own=own)
        for kind in ("SOFT", "HARD"):
            strip = desk.add(own=own)
            desk.do("split", frame=strip.frame_final_start + 9, type=kind, side="RIGHT", use_cursor_position=False)
            for part in sorted(movies.sequences(desk.scene), key=lambda s: s.frame_final_start):
                side = "left" if part.frame_final_start == strip.frame_final_start else "right"
                desk.compare(f"split {kind}, {side} part, {label}", part)
        strip = desk.add(own=own)
        strip.animation_offset_start, strip.animation_offset_end = 5, 3
        desk.compare(f"hard trims, {label}", strip)
        strip = desk.add(own=own)
        strip.strobe = 3
        desk.compare(f"strobe, {label}", strip)
        strip = desk.add(own=own)
        strip.frame_start += 7.4
        desk.compare(f"moved by a part of a frame, {label}", strip)
        yield


def retimed(desk):
    """Speeds, pieces of different speed, frozen frames, of movies and images."""
    for own in (False, True):
        for percent in (50.0, 200.0, 73.0):
            label = f"{percent:g} %, " + ("own rate" if own else "frame by frame")
            strip = desk.add(own=own)
            desk.speed(percent)
            desk.compare(f"retimed {label}", strip)
            strip.use_reverse_frames = True
            desk.compare(f"retimed, reversed {label}", strip)
            strip.use_reverse_frames = False
            handles(strip, 5, 3)
            desk.compare(f"retimed, trimmed {label}", strip)
            strip.use_reverse_frames = True
            desk.compare(f"retimed, trimmed, reversed {label}", strip)
            strip = desk.add(own=own)
            handles(strip, 4, 2)
            desk.speed(percent)
            desk.compare(f"trimmed, then retimed {label}", strip)
            yield
    strip = desk.add_images()
    desk.compare("images", strip)
    strip.use_reverse_frames = True
    desk.compare("images, reversed", strip)
    strip.use_reverse_frames = False
    desk.speed(150.0)
    desk.compare("images, retimed", strip)
    for own in (False, True):
        label = "own rate" if own else "frame by frame"
        strip = desk.add(own=own)
        desk.do("retiming_key_add", timeline_frame=strip.frame_final_start + 10)
        desk.compare(f"one key more, {label}", strip)
        desk.speed(60.0)
        desk.compare(f"two speeds, {label}", strip)
        strip.use_reverse_frames = True
        desk.compare(f"two speeds, reversed, {label}", strip)
        if bpy.app.version < (4, 5, 0):
            continue  # without a chosen key, the operator moves the strip's first key out of the strip
        strip = desk.add(own=own)
        desk.do("retiming_key_add", timeline_frame=strip.frame_final_start + 10)
        desk.do("retiming_freeze_frame_add", duration=7)
        desk.compare(f"freeze frame, {label}", strip)
        yield


def nested(desk):
    """Strips in meta strips, and what is refused."""
    for own in (False, True):
        label = "own rate" if own else "frame by frame"
        strip = desk.add(own=own)
        desk.do("meta_make")
        meta = desk.scene.sequence_editor.active_strip
        assert meta.type == "META"
        inner = next(iter(meta.strips if hasattr(meta, "strips") else meta.sequences))
        desk.refuse(f"meta, {label}", meta, "meta strip")
        desk.compare(f"in a meta, {label}", inner)
        meta.frame_start += 9
        desk.compare(f"in a moved meta, {label}", inner)
        handles(meta, 5, 4)
        desk.compare(f"in a trimmed meta, {label}", inner)
        assert desk.checked[f"in a trimmed meta, {label}"] == meta.frame_final_duration
        meta.use_reverse_frames = True
        desk.refuse(f"in a reversed meta, {label}", inner, "meta strip")
        meta.use_reverse_frames = False
        desk.speed(50.0)
        desk.refuse(f"in a retimed meta, {label}", inner, "meta strip")
        yield
    strip = desk.add((25, 1), (24, 1), False)
    desk.do("effect_strip_add", type="SPEED", frame_start=START, channel=2, move_strips=False)
    desk.refuse("speed effect", strip, "speed effect")


GROUPS = {group.__name__: group for group in (own_rate, cut, retimed, nested)}
