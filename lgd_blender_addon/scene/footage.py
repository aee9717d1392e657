# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage as a place in Blender shows it: sequencer strip, movie clip, camera background, or a file.

Every place is read into one form, `Footage`: the path that the worker opens, and a table of which of its frames
(0-based, the worker's counting) Blender shows on which frame. What a place does to time (offset, trims, speed, reversed)
is in that table; `timing.py` lays keys by it.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np

from .._bridge import LgdError
from . import strips
from .keyframes import find_curve, sample

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .jpe .jp2 .bmp .tif .tiff .webp .ppm .pgm .pbm".split())


@dataclass(frozen=True)
class Footage:
    """place: STRIP, CLIP, CAMERA or FILE; name for actions and objects; path of a video file or a folder of images.

    fps: the rate Blender takes for the file (0: not known); size (w, h) px or (0, 0); start: Blender's frame of
    table[0]; table (N,) int: the source frame shown on Blender's frame start + i, -1 for none; block: the name of
    the clip or image that shows it, for the camera's background; begin: of a part, the frame on which the whole begins to
    be shown, and the source frame it shows there; file_start: of a FILE, the frame on which its first picture lies;
    notes: what is to be told of how it is read.
    """

    place: str
    name: str
    path: str
    fps: float
    size: tuple[int, int]
    start: int
    table: np.ndarray
    block: str = ""
    begin: tuple[int, int] | None = None
    file_start: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        return Path(self.path).suffix.lower() in IMAGE_SUFFIXES or Path(self.path).is_dir()

    def cut(self, first: float, last: float) -> "Footage":
        """Only what is shown from Blender's frame `first` to `last`, both included."""
        a = max(int(np.ceil(first)) - self.start, 0)
        b = min(int(np.floor(last)) - self.start + 1, len(self.table))
        if b <= a or not (self.table[a:b] >= 0).any():
            raise LgdError(
                "bad_input",
                f"{self.name} is not shown between frames {first:g} and {last:g}.",
                f"It is shown from frame {self.start} to {self.start + len(self.table) - 1}: change the range.",
            )
        seen = int(np.argmax(self.table >= 0))
        begin = self.begin or (self.start + seen, int(self.table[seen]))
        return replace(self, start=self.start + a, table=self.table[a:b], begin=begin)

    @property
    def frames(self) -> tuple[int, int]:
        """The half-open range of source frames shown, for the worker."""
        seen = self.table[self.table >= 0]
        if not len(seen):
            raise LgdError("bad_input", f"{self.name} shows no frame.", "Check the strip's or clip's range.")
        return int(seen.min()), int(seen.max()) + 1


def same_footage(noted: str, path: str) -> bool:
    """Whether what a rig or camera noted is the footage at `path`, also where the project was moved since, from another system too."""
    same = os.path.normcase(os.path.normpath(noted)) == os.path.normcase(os.path.normpath(path))
    last = [re.split(r"[\\/]", place.rstrip("\\/"))[-1] for place in (noted, path)]
    return bool(noted) and (same or (last[0] == last[1] and not Path(noted).exists()))


def on_its_side(footage, size) -> str:
    """What is to be told of a video whose pictures the worker, which turns them upright, finds to be of size (w, h) px, and Blender of (h, w);
    "" of others."""
    if footage is None or footage.is_folder or footage.size[0] == footage.size[1] or tuple(size) != footage.size[::-1]:
        return ""
    return (
        f"{Path(footage.path).name} is turned upright by a mark in the file, as phones' videos are, which this Blender does not follow: it shows it lying "
        "on its side, and so it lies behind the camera; boxes drawn over it miss. Use Blender 4.5 or newer, or save the video turned."
    )


def of_another_form(footage, size) -> str:
    """What is to be told of footage whose pictures are not as wide and high, to each other, as those of size (w, h) px that were solved; "" of others."""
    if not all(footage.size) or abs(footage.size[0] / footage.size[1] / (size[0] / size[1]) - 1) < 0.01:
        return ""
    width, height = footage.size
    return (
        f"The pictures of {Path(footage.path).name} have {width} x {height} px, and those that were solved {size[0]} x {size[1]}: "
        "the body does not lie over the person. Choose the footage that was solved."
    )


def _bad(text: str, hint: str = "") -> LgdError:
    return LgdError("bad_input", text, hint)


def _natural(name: str) -> list:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in re.split(r"(\d+)", name)]


def numbered(name: str):
    """A picture's name in three: before its number, the number's digits, behind it; None where it has none. The digits of .jp2 are no number."""
    match = re.match(r"^(.*?)(\d+)(\D*?(?:\.[^.]+)?)$", name)
    return match.groups() if match else None


def folder_files(folder: Path) -> list[str]:
    """The images of a folder in the order in which the worker counts them."""
    try:
        names = [
            f.name
            for f in folder.iterdir()
            if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != "." and f.is_file()
        ]
    except OSError:
        names = []
    return sorted(names, key=_natural)


def _existing(path: str, library=None) -> Path:
    full = Path(os.path.normpath(bpy.path.abspath(path, library=library)))  # //../footage is one with what was chosen by its full path
    if not path or not os.path.exists(full):  # which says no, too, to a name that is too long to be asked for
        raise _bad(
            f"The file {path or '(none)'} does not exist.", "Check the path, or find the missing file."
        )
    kind = full.suffix.lower()
    if kind in bpy.path.extensions_image - IMAGE_SUFFIXES and full.is_file():
        raise _bad(f"{full.name} is a picture of a kind that is not read ({kind[1:].upper()}).", "Save the sequence as .png, .jpg or .tif, or as a video.")
    return full


def _positions(folder: Path, names) -> np.ndarray:
    """Where each of the named files stands among the folder's images as the worker counts them."""
    order = {name: index for index, name in enumerate(folder_files(folder))}
    missing = next((name for name in names if name not in order), None)
    if missing is not None:
        raise _bad(
            f"The image {missing} is missing in {folder.name} or is of a kind that cannot be read.",
            "Use .png, .jpg or .tif images.",
        )
    return np.array([order[name] for name in names], dtype=int)


# -- the sequencer


def from_strip(scene, strip) -> Footage:
    """A movie or image strip of the scene's sequencer."""
    if strip is None:
        raise _bad("No strip is active in the sequencer.", "Select the footage's strip.")
    strips.must_be_plain(scene, strip)
    start, end = strips.shown_span(strip)
    if start >= end:
        raise _bad(f"The strip {strip.name} is shown on no frame.", "Check its handles and its meta strip's.")
    shown = np.arange(start, end)
    if strip.type == "MOVIE":
        full = _existing(strip.filepath)
        path, name, fps = str(full), Path(strip.filepath).stem, float(strip.fps)
        index = strips.strip_frames(scene, strip, shown, _movie(full)[0])
    else:
        folder = _existing(strip.directory)
        files = [e.filename for e in strip.elements]
        where = _positions(folder, files)
        index = where[np.clip(strips.strip_frames(scene, strip, shown, len(files)), 0, len(files) - 1)]
        path, name, fps = str(folder), folder.name, 0.0
        if len(files) == 1:
            path = str(folder / files[0])
            index = np.zeros_like(index)
    return Footage("STRIP", name, path, fps, _strip_size(strip), start, index.astype(int), strip.name, notes=strips.remarks(strip))


def _strip_size(strip) -> tuple[int, int]:
    element = strip.elements[0] if len(strip.elements) else None
    return (int(element.orig_width or 0), int(element.orig_height or 0)) if element is not None else (0, 0)


_movies: dict = {}


def _movie(path: Path) -> tuple[int, float]:
    """Blender's number of frames of a movie, and the rate it counts them at."""
    key = (str(path), path.stat().st_mtime, path.stat().st_size)
    if key not in _movies:
        clip = bpy.data.movieclips.load(str(path))
        _movies[key] = int(clip.frame_duration), float(clip.fps)
        bpy.data.movieclips.remove(clip)
    return _movies[key]


# -- clips, images, files


def from_clip(clip) -> Footage:
    """A movie clip, as the clip editor and camera backgrounds show it (frame for frame)."""
    if clip is None:
        raise _bad("No movie clip is open.", "Open the footage in the movie clip editor.")
    start = int(clip.frame_start)
    index = np.arange(int(clip.frame_duration)) + int(clip.frame_offset)
    path = _existing(clip.filepath, clip.library)
    if clip.source == "SEQUENCE":
        path, index = _sequence(path, index)
    else:
        index = np.where(index < int(clip.frame_duration), index, -1)
    fps = float(clip.fps)
    return Footage(
        "CLIP",
        Path(clip.name).stem,
        str(path),
        fps,
        tuple(clip.size),
        start,
        np.maximum(index, -1),
        clip.name,
    )


def _sequence(first: Path, index):
    """A numbered sequence's folder, and the place there of each frame counted from the sequence's first number."""
    parts = numbered(first.name)
    if parts is None:
        return first, np.where(index == 0, 0, -1)
    head, digits, tail = parts
    order = {name: place for place, name in enumerate(folder_files(first.parent))}
    names = [f"{head}{int(digits) + int(i):0{len(digits)}d}{tail}" for i in index]
    return first.parent, np.array([order.get(name, -1) for name in names], dtype=int)


def from_image(image, user, offset=None) -> Footage:
    """A movie or image sequence behind a camera, with that background's own frames (`image_user`). offset: the f-curve of its offset,
    which Real Time keys."""
    if image.source not in ("FILE", "MOVIE", "SEQUENCE"):
        raise _bad(f"The image {image.name} is neither a movie nor an image sequence.", "Choose the footage in its place, behind the camera.")
    path = _existing(image.filepath, image.library)
    size = tuple(image.size)
    name = Path(image.filepath).stem
    if image.source == "FILE":
        return Footage("CAMERA", name, str(path), 0.0, size, 1, np.zeros(1, dtype=int), image.name)
    count = int(user.frame_duration)
    offsets = int(user.frame_offset) if offset is None else sample(offset, user.frame_start + np.arange(count)).astype(int)
    shown = np.arange(1, count + 1) + offsets
    if image.source == "MOVIE":
        length, fps = _movie(path)
        index = np.where((shown >= 1) & (shown <= length), shown - 1, -1)
        return Footage("CAMERA", name, str(path), fps, size, int(user.frame_start), index, image.name)
    parts = numbered(path.name)
    number = int(parts[1]) if parts else 1
    folder, index = _sequence(path, shown - number)
    return Footage("CAMERA", folder.name, str(folder), 0.0, size, int(user.frame_start), index, image.name)


def offset_path(background: int) -> str:
    """The data path, in a camera, of the offset of the pictures behind it, which takes of an uneven pace key."""
    return f"background_images[{background}].image_user.frame_offset"


def from_camera(scene) -> Footage:
    """The first clip, movie or image sequence that the scene's camera shows behind it; of hidden ones alone, the first of these."""
    camera = scene.camera
    if camera is None or camera.type != "CAMERA":
        raise _bad("The scene has no camera.", "Add a camera with the footage as its background image.")
    for number, background in sorted(enumerate(camera.data.background_images), key=lambda entry: not entry[1].show_background_image):
        if background.source == "MOVIE_CLIP":
            clip = scene.active_clip if background.use_camera_clip else background.clip
            if clip is not None:
                return replace(from_clip(clip), place="CAMERA")
        elif background.image is not None:
            offset = find_curve(camera.data, offset_path(number))
            return from_image(background.image, background.image_user, offset)
    raise _bad(
        f"The camera {camera.name} has no footage behind it.", "Add the footage as its background image."
    )


def from_file(path: str) -> Footage:
    """A video file or a folder of images, shown frame for frame from frame 1."""
    full = _existing(path)
    if full.is_dir():
        files = folder_files(full)
        if not files:
            raise _bad(
                f"The folder {full.name} holds no images.",
                "Choose a folder of .png or .jpg files, or a video file.",
            )
        return Footage("FILE", full.name, str(full), 0.0, (0, 0), 1, np.arange(len(files)))
    if full.suffix.lower() in IMAGE_SUFFIXES:
        return Footage("FILE", full.stem, str(full), 0.0, (0, 0), 1, np.zeros(1, dtype=int))
    try:
        clip = bpy.data.movieclips.load(str(full))
    except RuntimeError:
        raise _bad(f"Blender cannot read {full.name} as a video.", "Check that the file plays.") from None
    try:
        found = from_clip(clip)
    finally:
        bpy.data.movieclips.remove(clip)
    if found.table.size < 1 or not found.fps:
        raise _bad(f"Blender cannot read {full.name} as a video.", "Check that the file plays.")
    return Footage("FILE", full.stem, str(full), found.fps, found.size, 1, np.arange(len(found.table)))


def with_footage(place: str, scene, strip=None, clip=None, path: str = "", start: int = 1) -> Footage:
    """The footage of a place by name: STRIP, CLIP, CAMERA or FILE, which alone has no place of its own in the scene's time and begins at
    `start`. Raises LgdError with a sentence."""
    if place == "STRIP":
        editor = scene.sequence_editor
        return from_strip(scene, strip or (editor.active_strip if editor else None))
    if place == "CLIP":
        return from_clip(clip)
    if place == "CAMERA":
        return from_camera(scene)
    if not path:
        raise _bad("No file is chosen.", "Choose a video or a folder of images.")
    return replace(from_file(path), start=start, file_start=start)
