# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frame of its movie or images a strip of the sequencer shows when: Blender's own arithmetic, in every version."""

import bpy
import numpy as np

from .._bridge import LgdError
from .retiming import Key, Timing, read_timing

_KINDS = {
    "META": "is a meta strip, which cannot be read: open it (Tab) and select the movie strip inside.",
    "SPEED": "is a speed effect, which cannot be read: set the speed by the movie strip's retiming.",
    "SCENE": "is a scene strip: render it to a video first.",
    "SOUND": "is a sound strip: select the movie strip beside it.",
    "MOVIECLIP": "is a clip strip: choose the clip in the movie clip editor.",
}


def _bad(text: str, hint: str = "") -> LgdError:
    return LgdError("bad_input", text, hint)


def all_strips(scene) -> list:
    """All strips of a scene's sequencer, those in meta strips too, in any version."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return list(editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all)


def must_be_plain(scene, strip) -> None:
    """Raises LgdError, in a sentence, for a strip whose frames cannot be told."""
    if strip.type not in ("MOVIE", "IMAGE"):
        other = "is neither a movie nor images: select the footage's own strip."
        raise _bad(f"The strip {strip.name} " + _KINDS.get(strip.type, other))
    if _speed_effect(scene, strip):
        raise _bad(
            f"The strip {strip.name} is played by a speed effect, which cannot be read.",
            "Remove the effect, or set the speed by the strip's retiming.",
        )
    for meta in _metas(strip):
        timing = read_timing(meta)
        if timing is None or timing.keys or meta.use_reverse_frames or _speed_effect(scene, meta):
            raise _bad(
                f"The strip {strip.name} lies in the meta strip {meta.name}, which is retimed or reversed.",
                "Set the speed of the movie strip itself, or separate the meta strip.",
            )


def remarks(strip) -> tuple[str, ...]:
    """What is to be told of a strip that shows its pictures otherwise than its file."""
    if not (strip.use_flip_x or strip.use_flip_y):
        return ()
    return (f"The strip {strip.name} is flipped, which is not read: who is solved moves as in the file, and the file lies behind the camera.",)


def _speed_effect(scene, strip) -> bool:
    return any(
        other.type == "SPEED" and getattr(other, "input_1", None) == strip and not other.mute
        for other in all_strips(scene)
    )


def _metas(strip):
    while (strip := strip.parent_meta()) is not None:
        yield strip


def _of(strip, *names) -> float:
    """A strip's number under the newest of its names (5.1 renamed them)."""
    return float(getattr(strip, next(name for name in names if hasattr(strip, name))))


def strip_span(strip) -> tuple[int, int]:
    """The Blender frames between a strip's handles, half-open."""
    return (
        int(_of(strip, "left_handle", "frame_final_start")),
        int(_of(strip, "right_handle", "frame_final_end")),
    )


def shown_span(strip) -> tuple[int, int]:
    """The same, cut to the handles of the meta strips that the strip lies in."""
    spans = [strip_span(one) for one in (strip, *_metas(strip))]
    return max(start for start, _ in spans), min(end for _, end in spans)


def strip_frames(scene, strip, frames, count: int) -> np.ndarray:
    """The frame (0-based, of `count` in the file) that a movie or image strip shows on Blender's frames (N,), which rise."""
    frames = np.asarray(frames, dtype=float)
    trims = [
        int(_of(strip, f"content_trim_{end}", f"animation_offset_{end}")) for end in ("start", "end")
    ]
    length = max(count - sum(trims), 1)
    if count == 1:
        return np.zeros(len(frames), dtype=int)
    timing = read_timing(strip)
    start = _of(strip, "content_start", "frame_start")
    last = strip_span(strip)[1] + _of(strip, "right_handle_offset", "frame_offset_end") - 1
    if timing is None:
        if len(getattr(strip, "retiming_keys", ())) or abs(last + 1 - start - length) >= 0.5:
            text = f"The speed of the strip {strip.name} cannot be read in this version of Blender."
            raise _bad(text, "Play it frame by frame, without retiming, or render it to a video.")
        timing = Timing((), 0.0)
    # In single precision as in Blender: half a frame is often hit exactly.
    index = np.maximum(last - frames if strip.use_reverse_frames else frames - start, 0.0).astype(np.float32)
    if timing.rate:
        index = index * (np.float32(timing.rate) / np.float32(scene.render.fps / scene.render.fps_base))
    if timing.keys:
        if any(key.in_transition for key in timing.keys):
            text = f"The strip {strip.name} has a speed transition, which cannot be read."
            raise _bad(text, "Remove the transition, or render the strip to a video.")
        index = _part(timing.keys, index) * np.float32(length if bpy.app.version >= (5, 0, 0) else length - 1)
    index = np.clip(index, 0.0, length - 1)
    if strip.strobe > 1:
        index = index - np.fmod(index, np.float32(strip.strobe))
    return np.minimum(_whole(index), length - 1) + trims[0]


def _part(keys: tuple[Key, ...], index: np.ndarray) -> np.ndarray:
    """The part of the movie, 0 to 1, that a retimed strip has played at its frames (N,)."""
    places = np.array([key.index for key in keys])
    parts = np.array([key.factor for key in keys], dtype=np.float32)
    left = np.clip(np.searchsorted(places, index, side="right") - 1, 0, max(len(keys) - 2, 0))
    lengths = np.diff(places)
    if bpy.app.version < (4, 5, 0):
        lengths = np.trunc(lengths)
    steps = (np.diff(parts) / np.maximum(lengths, 1e-6)).astype(np.float32)
    here = (index - places[left]).astype(np.float32)
    return np.minimum(parts[left] + steps[left] * here, np.float32(1.0))


def _whole(index: np.ndarray) -> np.ndarray:
    """Frames that are shown for places between frames (N,), in the order of play."""
    near = np.floor(index + 0.5).astype(int)  # Blender rounds half away from zero
    if bpy.app.version < (5, 0, 0):
        return near
    # Since 5.0 pictures are kept by the whole part of their place: the first that is asked for is shown for all.
    part = np.floor(index).astype(int)
    first = np.concatenate([[True], np.diff(part) != 0])
    return near[first][np.cumsum(first) - 1]
