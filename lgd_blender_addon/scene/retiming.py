# SPDX-License-Identifier: GPL-3.0-or-later
"""How a strip of the sequencer plays: its own rate, and which part of the movie each retiming key stands for.

Blender's Python tells of a key its frame alone, and of the rate nothing. The rest is read, and never written, from the
strip's own structure in memory; where its fields lie says the description (SDNA) that Blender writes into every file.
"""

import ctypes
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bpy

AUTO_PLAYBACK_RATE = 1 << 17  # of a strip: it plays at its movie's own rate
IN_TRANSITION = 1 << 0 | 1 << 1  # of a key: where a transition between two speeds begins and ends


@dataclass(frozen=True)
class Key:
    """index: frames of the strip from its start, at the rate it plays at; factor: part of the movie, 0 to 1."""

    index: float
    factor: float
    in_transition: bool


@dataclass(frozen=True)
class Timing:
    """A strip's retiming keys, and the movie's rate where the strip plays at that (0: frame by frame)."""

    keys: tuple[Key, ...]
    rate: float


def read_timing(strip) -> Timing | None:
    """How a strip plays; None where this Blender's strips have another structure than is known here."""
    structs = _structs()
    # Files keep the first names of things: a strip is a Sequence there, a key a handle.
    shape, key_shape = structs.get("Sequence"), structs.get("SeqRetimingHandle")
    wanted = {"name", "flag", "retiming_handles", "retiming_handle_num", "media_playback_rate"}
    if not shape or not key_shape or not wanted <= set(shape.fields):
        return None
    if not {"strip_frame_index", "retiming_factor", "flag"} <= set(key_shape.fields):
        return None
    memory = ctypes.string_at(strip.as_pointer(), shape.size)
    count = shape.read(memory, "retiming_handle_num")
    address = shape.read(memory, "retiming_handles")
    # What Python knows too must agree, or the description is not of this structure. Not every kind shows its keys.
    if shape.text(memory, "name")[2:] != strip.name or count != len(getattr(strip, "retiming_keys", range(count))):
        return None
    own = shape.read(memory, "flag") & AUTO_PLAYBACK_RATE
    rate = float(shape.read(memory, "media_playback_rate")) if own else 0.0
    memory = ctypes.string_at(address, key_shape.size * count) if count and address else b""
    keys = []
    for at in range(0, len(memory), key_shape.size):
        one = memory[at : at + key_shape.size]
        index, factor = (float(key_shape.read(one, name)) for name in ("strip_frame_index", "retiming_factor"))
        keys.append(Key(index, factor, bool(key_shape.read(one, "flag") & IN_TRANSITION)))
    rising = all(a.index <= b.index for a, b in zip(keys, keys[1:]))
    return Timing(tuple(keys), rate) if rising and all(-0.01 <= key.factor <= 1.01 for key in keys) else None


# -- the description of structures


@dataclass
class _Shape:
    size: int
    fields: dict  # name: (offset, type, length; 0 for a pointer)

    def read(self, memory: bytes, name: str):
        offset, kind, _ = self.fields[name]
        return struct.unpack_from(kind, memory, offset)[0]

    def text(self, memory: bytes, name: str) -> str:
        offset, _, length = self.fields[name]
        return memory[offset : offset + length].split(b"\0")[0].decode("utf-8", "replace")


FORMATS = {
    "char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "long": "i", "ulong": "I", "float": "f",
    "double": "d", "int64_t": "q", "uint64_t": "Q", "int8_t": "b",
}  # fmt: skip
_known: dict[str, _Shape] | None = None


def _structs() -> dict[str, _Shape]:
    """Structures of this Blender by name, from a file that it writes once a session."""
    global _known
    if _known is None:
        with tempfile.TemporaryDirectory(prefix="lgd-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "small.blend"
            note = bpy.data.texts.new("lgd")
            try:
                bpy.data.libraries.write(str(path), {note})
                _known = parse_description(path.read_bytes())
            except (OSError, ValueError, IndexError, struct.error):
                _known = {}
            finally:
                bpy.data.texts.remove(note)
    return _known


def parse_description(data: bytes) -> dict[str, _Shape]:
    """The structures named in a .blend file's block DNA1. Raises ValueError where there is none."""
    at = data.rfind(b"SDNANAME")
    if at < 0:
        raise ValueError("no description of structures")
    data = data[at:]  # its parts are aligned from here
    names, at = _strings(data, 8)
    types, at = _strings(data, _after(data, at, b"TYPE"))
    at = _after(data, at, b"TLEN")
    sizes = struct.unpack_from(f"<{len(types)}H", data, at)
    at = _after(data, at + 2 * len(types), b"STRC")
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    found = {}
    for _ in range(count):
        kind, members = struct.unpack_from("<HH", data, at)
        fields, offset = {}, 0
        for type_index, name_index in struct.iter_unpack("<HH", data[at + 4 : at + 4 + 4 * members]):
            name, type_name = names[name_index], types[type_index]
            length = 1
            for part in name.split("[")[1:]:
                length *= int(part.rstrip("]"))
            pointer = name.startswith(("*", "(*"))
            fields[name.split("[")[0].lstrip("(*").rstrip(")(")] = (
                offset, "Q" if pointer else FORMATS.get(type_name, "b"), length,
            )  # fmt: skip
            offset += length * (8 if pointer else sizes[type_index])
        found[types[kind]] = _Shape(sizes[kind], fields)
        at += 4 + 4 * members
    return found


def _after(data: bytes, at: int, mark: bytes) -> int:
    at += -at % 4
    if data[at : at + 4] != mark:
        raise ValueError(f"{mark!r} is missing")
    return at + 4


def _strings(data: bytes, at: int) -> tuple[list[str], int]:
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    out = []
    for _ in range(count):
        end = data.index(b"\0", at)
        out.append(data[at:end].decode("ascii", "replace"))
        at = end + 1
    return out, at
