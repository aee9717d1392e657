# SPDX-License-Identifier: GPL-3.0-or-later
"""Variable-rate files without a muxer: the time table of an .mp4 (`stts`) written anew, its pictures as they are."""

import struct
from pathlib import Path

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
# Where a box keeps its duration, after its 8 bytes of size and kind, in version 0.
MOVIE_DURATIONS = {b"mvhd": 16, b"tkhd": 20, b"elst": 8}


def boxes(data: bytes):
    """(kind, content) of each box in `data`."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        assert 8 <= size <= len(data) - at, (kind, size)  # sizes of 64 bits are not needed for tests' films
        yield kind, data[at + 8 : at + size]
        at += size


def find(data: bytes, *kinds: bytes) -> bytes:
    """The content of the first box along a path of kinds."""
    for kind in kinds:
        data = next(content for name, content in boxes(data) if name == kind)
    return data


def retime(source, target, seconds, ticks_a_second: int | None = None) -> str:
    """Copy an .mp4 with one video stream and no B-frames so that picture k is shown for seconds[k]; returns the path.

    ticks_a_second: what the file counts time in; None: as it was.
    """
    data = Path(source).read_bytes()
    kinds = [kind for kind, _ in boxes(data)]
    assert kinds.index(b"mdat") < kinds.index(b"moov"), "the pictures must come first: their places are kept"
    media = ticks_a_second or struct.unpack(">I", find(data, b"moov", b"trak", b"mdia", b"mdhd")[12:16])[0]
    movie = struct.unpack(">I", find(data, b"moov", b"mvhd")[12:16])[0]
    assert not any(kind == b"ctts" for kind, _ in boxes(find(data, b"moov", b"trak", b"mdia", b"minf", b"stbl")))
    ends = [0]
    for one in seconds:
        ends.append(ends[-1] + one)
    ticks = [round(end * media) for end in ends]
    steps = [b - a for a, b in zip(ticks, ticks[1:])]
    assert min(steps) > 0

    def anew(kind: bytes, content: bytes) -> bytes:
        if kind in CONTAINERS:
            content = b"".join(anew(*box) for box in boxes(content))
        elif kind == b"stts":
            count = struct.unpack(">I", find(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")[8:12])[0]
            assert count == len(steps), f"{count} pictures, {len(steps)} durations"
            content = struct.pack(">II", 0, len(steps)) + b"".join(struct.pack(">II", 1, step) for step in steps)
        elif kind == b"mdhd":
            content = content[:12] + struct.pack(">II", media, ticks[-1]) + content[20:]
        elif kind in MOVIE_DURATIONS:
            at = MOVIE_DURATIONS[kind]
            assert content[0] == 0  # version
            content = content[:at] + struct.pack(">I", round(ends[-1] * movie)) + content[at + 4 :]
        return struct.pack(">I4s", len(content) + 8, kind) + content

    Path(target).write_bytes(b"".join(anew(*box) for box in boxes(data)))
    return str(target)
