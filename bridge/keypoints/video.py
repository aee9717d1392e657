# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage as upright BGR frames with their own times: videos, folders of images, single images."""

from __future__ import annotations

import abc
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bridge.counting import STEADY, counts, shown
from bridge.errors import LgdError
from bridge.keypoints.pictures import is_turned, left_out, opencv, read_image
from bridge.keypoints.tracks import DEFAULT_FPS
from bridge.places import named

IMAGE_SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"]
)
HELD_BYTES = 400_000_000  # of pictures while a footage is read backwards
FASTEST = 300.0  # frames a second: where a header tells more (recordings of browsers: 1000) it is the clock's rate, and the frames are counted in its ticks
TURNED = "The pictures are turned upright by their EXIF tag, which Blender does not follow: behind the camera they lie as they are stored. Save them turned."
_READ_HINT = "Check that the file plays in another program, or convert it to an .mp4 (H.264)."


def _natural(path: Path) -> list:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", path.name)
    ]


class Footage(abc.ABC):
    """Frames a to b (half-open) of one source; iterate for (index from 0, upright BGR uint8 array (h, w, 3)).

    width, height px; kind "video", "images" or "image"; first the range's first frame in the source; count the
    number of frames (for a video from its header until it has been read); fps the mean rate; frame_times (F,)
    s from the source's first frame; notes sentences worth saying. Iterating may raise LgdError (bad_input).
    """

    def __init__(self, path: Path, kind: str, width: int, height: int, first: int, count: int):
        self.path = path
        self.kind = kind
        self.width = width
        self.height = height
        self.first = first
        self.count = count
        self.notes: list[str] = []
        self.cuts: list[int] = []  # first frames of further takes, in the range's counting: known when it was looked through
        self._times: np.ndarray | None = None

    @property
    def frame_times(self) -> np.ndarray:
        """(F,) s, strictly rising, 0 = the source's first frame; a video not yet read to its end is read."""
        assert self._times is not None
        return self._times

    @property
    def fps(self) -> float:
        """Frames a second, the mean over the range."""
        times = self.frame_times
        return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else self.nominal()

    def number(self, index: int) -> int:
        """A frame's place in the counting that the range was given in."""
        return self.first + index

    def nominal(self) -> float:
        """Frames a second, as far as that is known before it is read."""
        return DEFAULT_FPS

    @abc.abstractmethod
    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]: ...

    def backwards(self, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """The frames before `stop` (from 0 = the range's first), the last one first; holds few of them at a time."""
        while stop > 0:
            start = max(stop - max(HELD_BYTES // (3 * self.width * self.height), 1), 0)
            yield from reversed(list(self._part(start, stop)))
            stop = start

    def again(self) -> Iterator[tuple[int, np.ndarray]]:
        """All frames once more, after they were gone through."""
        return self._part(0, self.count)

    @abc.abstractmethod
    def _part(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Frames start to stop, counted from the range's first."""


class VideoFootage(Footage):
    """A video file, decoded by OpenCV; times are the file's own time stamps."""

    def __init__(self, path: Path, frames: tuple[int, int] | None, counted: float | None = None):
        capture = _open_capture(path)
        try:
            cv2 = opencv()
            header = int(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0))
            rate = float(capture.get(cv2.CAP_PROP_FPS))
            pixel = [capture.get(key) for key in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN)]
            good, image = capture.read()
        finally:
            capture.release()
        if not good or image is None:
            raise LgdError("bad_input", f"No frame of the video {path.name} can be decoded.", _READ_HINT)
        self._rate = rate if 0.01 <= rate <= 1000 else DEFAULT_FPS
        about = header
        if rate > FASTEST:
            self._rate = _rate_of(path) or self._rate
            about, header = round(header * self._rate / rate), 0
        self._counted = counted if counted and frames is not None else 0.0  # a counting of the range's own
        self._numbers: list[int] = []
        self._start, self._stop = _range(frames, None if self._counted else header or None)
        a, b = self._start, self._stop
        if self._counted:
            self._begin = np.array(list(itertools.islice(_stamps(path), STEADY)))
            a, b = self._shown_at(path, a) if a else 0, None
        self._last, self._header = b, header
        about = (self._stop or about) - self._start  # at most so many, for a range of counts
        super().__init__(path, "video", image.shape[1], image.shape[0], a, max(about, 0))
        if min(pixel) > 0 and abs(pixel[0] / pixel[1] - 1) > 0.02:
            text = f"The pixels of {path.name} are {pixel[0] / pixel[1]:.3g} times as wide as high, and are taken as square"
            self.notes.append(f"{text}: people come out too narrow or too wide. Convert the video to square pixels first.")

    def _shown_at(self, path: Path, count: int) -> int:
        """The picture that is shown on a count."""
        stamps: list[float] = []
        for stamp in _stamps(path):
            stamps.append(stamp)
            if self._count_of(stamps) > count:
                break
        return shown(np.array(stamps) - stamps[0], self._counted, count, count + 1)[0]

    def _count_of(self, stamps: list[float]) -> int:
        """The first count of the last picture, by the times s of those up to it."""
        if len(stamps) < len(self._begin):
            return int(counts(self._begin - stamps[0], self._counted)[len(stamps) - 1])
        return int(counts(np.array(stamps[-STEADY:]) - stamps[0], self._counted)[-1])

    def number(self, index: int) -> int:
        """A frame's place in the counting that the range was given in."""
        return max(self._numbers[index], self._start) if self._counted else self.first + index

    def nominal(self) -> float:
        return self._rate

    def _decode(self, pictures: bool) -> Iterator[tuple[int, np.ndarray | None]]:
        cv2 = opencv()
        capture = _open_capture(self.path)
        stamps: list[float] = []
        numbers: list[int] = []
        index, reached = 0, False
        try:
            while self._last is None or index < self._last:
                wanted = index >= self.first
                if not capture.grab():
                    break
                stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0)
                if self._counted:
                    number = self._count_of(stamps)
                    reached = self._stop is not None and number >= self._stop
                    if reached:
                        break
                    if wanted:
                        numbers.append(number)
                    self._numbers = numbers
                if wanted:
                    image = None
                    if pictures:
                        good, image = capture.retrieve()
                        if not good or image is None:
                            break
                        if image.shape[:2] != (self.height, self.width):
                            raise LgdError(
                                "bad_input",
                                f"The picture size of {self.path.name} changes at frame {index}.",
                                "Convert the video to one size.",
                            )
                    yield index - self.first, image
                index += 1
        finally:
            capture.release()
        done = index - self.first
        if done < 1:
            raise _too_short(self.path, index, self.first)
        expected = self._last or self._header
        if reached:  # a range of counts ended before the file did
            expected = index
        if (self._last is not None and index < self._last) or index < 0.9 * expected:
            self.notes.append(f"The video ends after {index} of {expected} frames: it is cut (its header counts what was cut off) or damaged.")
        self.count = done
        self._times = _rising(np.array(stamps[:index]), 1.0 / self._rate)[self.first :]

    @property
    def frame_times(self) -> np.ndarray:
        if self._times is None:
            for _ in self._decode(pictures=False):
                pass
        return super().frame_times

    def _part(self, start: int, stop: int):
        # From the beginning: a jump to a frame by its number lands elsewhere in many files.
        capture = _open_capture(self.path)
        try:
            for index in range(-self.first, stop):
                if not capture.grab():
                    return
                if index >= start:
                    good, image = capture.retrieve()
                    if not good or image is None:
                        return
                    yield index, image
        finally:
            capture.release()

    def __iter__(self):
        return self._decode(pictures=True)


class ImageFootage(Footage):
    """A folder of images in natural order, or one image, at a given or assumed rate."""

    def __init__(
        self, path: Path, files: list[Path], kind: str, frames: tuple[int, int] | None, fps: float | None
    ):
        a, b = _range(frames, len(files))
        self._files = files[a:b]
        first = read_image(self._files[0])
        super().__init__(path, kind, first.shape[1], first.shape[0], a, len(self._files))
        self._rate = fps or DEFAULT_FPS
        if kind == "images" and not fps:
            self.notes.append("The folder of images has no frame rate: 30 frames a second are assumed.")
        if kind == "image":
            self.notes += left_out(path, "pictures")
        if is_turned(self._files[0], first):
            self.notes.append(TURNED)
        self._times = np.arange(a, a + len(self._files)) / self._rate

    def nominal(self) -> float:
        return self._rate

    def __iter__(self):
        return self._part(0, len(self._files))

    def _part(self, start: int, stop: int):
        for index, file in enumerate(self._files[start:stop], start):
            image = read_image(file)
            if image.shape[:2] != (self.height, self.width):
                raise LgdError(
                    "bad_input",
                    f"The image {file.name} is {image.shape[1]} x {image.shape[0]} pixels, "
                    f"but {self._files[0].name} is {self.width} x {self.height}.",
                    "Keep only images of one size in the folder.",
                )
            yield index, image


def open_footage(
    path: str | Path,
    frames: tuple[int, int] | None = None,
    fps: float | None = None,
    counted: float | None = None,
) -> Footage:
    """A video file, a folder of images or one image as Footage.

    frames (a, b): half-open range, either may be None; fps: the rate of a folder of images (a video's own times
    win); counted: the range counts a video's frames at this rate as Blender does, not its pictures. Raises LgdError (bad_input) with a sentence for whatever cannot be read.
    """
    path = named(path)
    if fps is not None and not (np.isfinite(fps) and 0 < fps <= 100000):
        raise LgdError(
            "bad_input", f"{fps:g} is no frame rate.", "Give the frames a second, such as 24 or 29.97."
        )
    try:
        if "\0" in str(path):
            raise ValueError
        path = path.absolute()
        if path.is_dir():
            return _open_folder(path, frames, fps)
        if not path.exists():
            raise LgdError("bad_input", f"The file {path} does not exist.", "Check the path.")
        if not path.is_file():
            raise LgdError(
                "bad_input",
                f"{path} is neither a file nor a folder.",
                "Choose a video or a folder of images.",
            )
        with path.open("rb") as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise LgdError(
            "bad_input", f"{path} cannot be opened: {reason}.", "Check the path and its permissions."
        ) from None
    if empty:
        raise LgdError("bad_input", f"The file {path.name} is empty.", _READ_HINT)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFootage(path, [path], "image", frames, fps)
    return VideoFootage(path, frames, counted)


def _too_short(path: Path, have: int, start: int) -> LgdError:
    text = f"The video {path.name} has only {have} frames; the range starts at {start}."
    return LgdError("bad_input", text, "Choose an earlier range.")


def _open_folder(path: Path, frames, fps) -> Footage:
    files = [
        f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != "." and f.is_file()
    ]
    if not files:
        raise LgdError(
            "bad_input",
            f"The folder {path.name} holds no images.",
            "Choose a folder of .png or .jpg files, or a video file.",
        )
    return ImageFootage(path, sorted(files, key=_natural), "images", frames, fps)


def _range(frames, total: int | None) -> tuple[int, int | None]:
    a, b = frames if frames is not None else (0, None)
    a = 0 if a is None else int(a)
    b = total if b is None and frames is not None else b
    b = None if b is None else int(b)
    if a < 0 or (b is not None and b <= a) or (total is not None and (a >= total or (b or 0) > total)):
        have = "" if total is None else f" of {total} frames"
        raise LgdError(
            "bad_input",
            f"The frame range {a}:{'' if b is None else b} does not fit the footage{have}.",
            "The range counts from 0 and its end is not included.",
        )
    return a, b


def _open_capture(path: Path):
    cv2 = opencv()
    try:
        str(path).encode()
    except UnicodeEncodeError:  # bytes that are no text: OpenCV would end the process
        raise LgdError("bad_input", f"The path of the video {path.name} holds letters that are not in UTF-8.", "Rename the file or the folder.") from None
    # FFmpeg first: the image-sequence backend would take a % in the name for a pattern.
    for backend in (cv2.CAP_FFMPEG, cv2.CAP_ANY):
        try:
            capture = cv2.VideoCapture(str(path), backend)
        except cv2.error:
            continue
        if capture.isOpened():
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            return capture
        capture.release()
    raise LgdError("bad_input", f"The file {path.name} cannot be read as a video.", _READ_HINT)


def _stamps(path: Path) -> Iterator[float]:
    """The times s of a video's pictures, as the file has them."""
    capture = _open_capture(path)
    try:
        while capture.grab():
            yield capture.get(opencv().CAP_PROP_POS_MSEC) / 1000.0
    finally:
        capture.release()


def picture_times(path: str | Path, count: int) -> np.ndarray:
    """(count,) s of a video's first pictures, strictly rising from 0; beyond its end at its usual pace. Raises LgdError where it is none."""
    stamps = np.array(list(itertools.islice(_stamps(Path(path)), count)))
    if not len(stamps):
        raise _too_short(Path(path), 0, 0)
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    step = step if step > 0 else 1 / DEFAULT_FPS
    times = _rising(stamps, step)
    return np.append(times, times[-1] + step * np.arange(1, count - len(times) + 1))


def _rate_of(path: Path) -> float | None:
    """Frames a second, by a video's first pictures."""
    steps = np.diff(list(itertools.islice(_stamps(path), STEADY)))
    return float(1 / np.median(steps[steps > 0])) if (steps > 0).any() else None


def _rising(stamps: np.ndarray, step: float) -> np.ndarray:
    """Time stamps (F,) s made to start at 0 and to rise strictly; a stamp that does not rise follows by a
    millisecond, or by `step` where that is less; where most do not rise all are `step` apart."""
    times = stamps - stamps[0]
    if len(times) > 1 and not (np.diff(times) > 0).mean() > 0.5:
        return np.arange(len(times)) * step
    out = times.copy()
    for i in range(1, len(out)):
        if not out[i] > out[i - 1] + 1e-6:
            out[i] = out[i - 1] + min(step, 1e-3)
    return out
