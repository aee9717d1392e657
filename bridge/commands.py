# SPDX-License-Identifier: GPL-3.0-or-later
"""`detect` and `fit` of the command line: the worker's own handlers, with a terminal instead of a pipe."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from .cli import by_options, tell
from .counting import frames_text
from .errors import LgdError
from .moving import replace


class Console:
    """A job's messages on standard error: the same interface as `server.Task`."""

    counts_from = 0
    """The command line's `--person 0` is the most prominent."""

    def __init__(self, request: dict):
        self.request = request
        self.id = 1
        self._live = sys.stderr.isatty()
        self._shown = ("", -1, 0.0)

    def should_stop(self) -> bool:
        """Never: Ctrl-C interrupts."""
        return False

    def progress(self, stage: str, done: int, total: int) -> None:
        """One line that is written over on a terminal, one line a tenth elsewhere; a stage of one piece by its name."""
        counted = total > 1
        tenth, now = (10 * done // total if counted else 0), time.monotonic()
        text = f"{stage} {done}/{total}" if counted else stage
        if self._live and (stage != self._shown[0] or now - self._shown[2] > 0.1 or done == total):
            tell(text, end="")
        elif not self._live and (stage, tenth) != self._shown[:2]:
            tell(text)
        else:
            return
        self._shown = (stage, tenth, now)

    def send(self, type: str, **fields) -> None:
        """Streamed keypoints have no place on a terminal."""

    def warning(self, text: str, **more) -> None:
        """A line of its own, which names options where the add-on's names what to choose."""
        tell(by_options(text))

    log = warning

    def clear(self) -> None:
        """Take the progress line away."""
        if self._live:
            tell("", end="")


def detect(options: argparse.Namespace, stdout: TextIO) -> int:
    """`bridge detect`: write the keypoints' file and print what was found."""
    from . import handlers

    target = output_file(options.output)
    request = {"type": "detect", **_source(options)}
    with _Beside(target) as folder:
        task = Console(request)
        result = handlers.detect({**request, "out": str(folder)}, task)  # type: ignore[arg-type]
        task.clear()
        if isinstance(options.person, int):
            result |= _keep(Path(result["keypoints"]), options.person)
        _publish([(Path(result["keypoints"]), target)])
    lines = [
        f"{target}: {frames_text(result['frames'])} at {result['fps']:g} a second, {result['layout']}, "
        f"{result['image_size'][0]} x {result['image_size'][1]} px"
    ]
    lines += [
        f"person {entry['person']}: seen in {frames_text(entry['seen'])}, {entry['first']} to {entry['last']}, "
        f"confidence {entry['confidence']:.2f}"
        for entry in result["people"]
    ]
    _say(lines, stdout)
    return 0


def _say(lines: list[str], stdout: TextIO) -> None:
    """Print figures. The results are written by now, so that who no longer listens (a closed pipe) is no failure."""
    with contextlib.suppress(OSError):
        print(*lines, sep="\n", file=stdout, flush=True)


def _keep(file: Path, person: int) -> dict:
    from .handlers import describe_keypoints
    from .keypoints.tracks import Keypoints

    alone = Keypoints.load(file).person(person)
    alone.save(file)
    return describe_keypoints(alone)


def fit(options: argparse.Namespace, stdout: TextIO) -> int:
    """`bridge fit`: write the motion files (and traces) and print their figures."""
    from . import handlers
    from .inputs import chosen_mode

    read = options.input, options.camera, options.body, options.weights
    if options.person is None and (options.people or 1) > 1:
        options.person = "all"
    several = options.person == "all"
    target = output_file(options.output, *read, numbered=several)
    trace = output_file(options.trace, *read, target, numbered=several) if options.trace else None
    request: dict[str, Any] = {"type": "fit", "person": 0 if options.person is None else options.person}
    if is_keypoints(options.input):
        if options.box or options.detector or options.fast or options.people:
            raise LgdError(
                "bad_input", "--box, --detector, --fast and --people are for footage.",
                "Leave them out for a keypoint file; --person all fits everybody in it.",
            )
        if options.moves == "travels":
            raise LgdError("bad_input", "--travels needs the footage.", "Give the video instead of its keypoints.")
        if options.fps is not None and Path(options.input).suffix.lower() == ".npz":
            _without_rate(Path(options.input), options.size)
        request |= {
            "keypoints": options.input,
            "frames": options.frames,
            "fps": options.fps,
            "image_size": options.size,
            "device": options.device,
        }
    else:
        if options.size:
            raise LgdError("bad_input", "--size is for keypoint files; footage has its own.", "Leave --size out.")
        request |= _source(options)
    request |= {key: getattr(options, key) for key in ("mode", "weights", "focal", "camera", "moves", "body", "steps", "plant_feet")}
    if trace is not None and chosen_mode(options.mode, options.weights) != "paper":
        raise LgdError("bad_input", "The video mode keeps no trace.", "Leave out --trace, or use --mode paper.")
    with _Beside(target) as folder:
        task = Console(request)
        result = handlers.fit({**request, "trace": trace is not None, "out": str(folder)}, task)  # type: ignore[arg-type]
        task.clear()
        names = [(Path(file), _numbered(target, file)) for file in result["motions"]]
        if trace is not None:
            names += [(Path(file), _numbered(trace, file)) for file in result["traces"]]
        _publish(names)
    lines = []
    for (_, file), figures in zip(names, result["figures"], strict=False):
        error = (
            "no point seen" if figures["reprojection_px"] is None else f"{figures['reprojection_px']:.2f} px"
        )
        lines.append(
            f"{file}: person {figures['person']}, {frames_text(figures['frames'])}, seen in {figures['seen']}, mode {figures['mode']}, reprojection "
            f"{error} (median), focal length {figures['focal']:.0f} px ({figures['focal_source']})"
        )
    lines.append("seconds: " + ", ".join(f"{stage} {s:.2f}" for stage, s in result["seconds"].items()))
    _say(lines, stdout)
    return 0


def is_keypoints(text: str) -> bool:
    """Whether the input names keypoints: an .npz, a .json, or a folder with .json files."""
    path = Path(text)
    if not path.is_dir():
        return path.suffix.lower() in (".npz", ".json")
    from .keypoints.video import IMAGE_SUFFIXES

    kinds = [entry.suffix.lower() for entry in path.iterdir() if entry.name[0] != "."]
    written = kinds.count(".json")
    # OpenPose may draw a picture beside each of its files; a few .json beside pictures are something else.
    return 0 < written >= sum(kind in IMAGE_SUFFIXES for kind in kinds)


def _without_rate(path: Path, size: tuple[int, int] | None) -> None:
    from .keypoints.tracks import Keypoints

    if Keypoints.load(path, size).rate_known:
        text = f"--fps is for keypoints without a rate; {path.name} has times of its own."
        raise LgdError("bad_input", text, "Leave --fps out.")


def _source(options: argparse.Namespace) -> dict:
    path = Path(options.input)
    if not path.exists():
        raise LgdError("bad_input", f"The input {path} does not exist.", "Check the path.")
    if options.command == "detect" and is_keypoints(options.input):
        raise LgdError("bad_input", f"{path} holds keypoints, not pictures.", "Use `fit` with it: nothing is left to detect.")
    if options.fps is not None and path.is_file():
        raise LgdError(
            "bad_input", "--fps is for a folder of images; a video has a rate of its own.", "Leave --fps out."
        )
    if options.fast and options.detector:
        raise LgdError("bad_input", "--fast is the default detector's, and --detector names another.", "Leave one of them out.")
    if (options.people or 1) > 1 and (options.detector or options.box):
        text, hint = "A box shows one person.", "Leave out --people or --box."
        if options.detector:
            text, hint = "--people is the default detector's, and --detector names another, which shows everybody at once.", "Leave one of them out."
        raise LgdError("bad_input", text, hint)
    source = {"path": str(path), "frames": options.frames, "fps": options.fps, "boxes": options.box}
    return {"source": source, "detector": options.detector, "fast": options.fast, "look_for": options.people or 1, "device": options.device}


def output_file(path: Path, *kept: str | Path | None, numbered: bool = False) -> Path:
    """Where to write. Raises LgdError for a name that cannot be written, or is one of the files `kept`.

    numbered: what is written has a person's number behind the name.
    """
    if path.suffix.lower() != ".npz":
        raise LgdError("bad_input", f"The output {path} does not end in .npz.", "Choose such a name.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise LgdError(
            "bad_input", f"The output {path} cannot be written: its folder is not there, or it is a folder.", "Name a file in a folder that is there."
        )
    if not os.access(path.absolute().parent, os.W_OK):
        raise LgdError("disk", f"The folder {path.absolute().parent} cannot be written.", "Choose another one.")
    itself = re.escape(path.stem) + (r"(_\d+)?" if numbered else "") + re.escape(path.suffix)
    for other in (Path(other).resolve() for other in kept if other):
        if other.parent == path.resolve().parent and re.fullmatch(itself, other.name):
            text = f"The output {path} would also be the file {other.name}, which is read or written."
            raise LgdError("bad_input", text, "Choose another name.")
    return path


def _numbered(target: Path, file: str) -> Path:
    number = re.search(r"_(\d+)$", Path(file).stem)
    return target.with_name(f"{target.stem}_{number[1]}{target.suffix}") if number else target


def _publish(names: list[tuple[Path, Path]]) -> None:
    # All parts are copied beside their targets first, so that only renames are left that can fail.
    ready = []
    try:
        for file, target in names:
            part = target.with_name(f".lgd-{os.getpid()}-{len(ready)}.part")  # the target's own name may be as long as names can be
            ready.append((part, target))
            try:
                shutil.copyfile(file, part)  # not moved: what is born in a temporary folder is private, results are ordinary files
            except OSError as fault:
                raise LgdError("disk", f"{target} cannot be written: {fault.strerror or fault}.", "Choose another folder, or free some space.") from fault
        for part, target in ready:
            replace(part, target)
    finally:
        for part, _ in ready:
            part.unlink(missing_ok=True)


class _Beside:
    """A folder beside the target that is gone afterwards, whatever happens."""

    def __init__(self, target: Path):
        self._parent = target.absolute().parent

    def __enter__(self) -> Path:
        try:
            self._folder = tempfile.mkdtemp(prefix=".lgd-", dir=self._parent)
        except OSError as fault:
            raise LgdError(
                "disk", f"The folder {self._parent} cannot be written: {fault.strerror}.", "Choose another folder, or free some space."
            ) from fault
        return Path(self._folder)

    def __exit__(self, *_) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
