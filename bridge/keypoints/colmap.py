# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP (pycolmap) at work on small pictures of a clip: what is seen in each outside the people, and in which pairs it differs by more
than a turn of the camera."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path

import cv2
import numpy as np

from ..errors import LgdError
from ..places import drop, passing_folder

DISK = 0.5  # MB of the temporary folder for what is found in each picture
LONGER = 640  # px of the longer side that is looked at
FEATURES, BESIDE = 1000, 6  # of a picture, and so many pictures on it is compared with each, and with those twice, four times ... as far on


def colmap():
    """The module pycolmap. Raises LgdError setup_incomplete where it is not installed."""
    first = "pycolmap" not in sys.modules
    try:
        import pycolmap
    except ImportError:
        raise LgdError(
            "setup_incomplete", "COLMAP, which finds the path of a camera that travels, is not installed.", "Press Repair in the preferences, or set Camera to New."
        ) from None
    pycolmap.logging.minloglevel = 3
    if first and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # COLMAP takes it for a crash
    return pycolmap


class Waiting:
    """Runs what takes long and cannot be asked to stop beside the one who waits for it, and stops waiting when told to. Its temporary
    folder `place` is removed once what runs has ended."""

    def __init__(self, should_stop: Callable[[], bool] | None):
        self.should_stop, self.running = should_stop or (lambda: False), list[Future]()
        self.place = passing_folder("lgd-path-")

    def check(self) -> None:
        if self.should_stop():
            raise LgdError("cancelled", "The search for the camera's path was cancelled.")

    def __call__(self, function: Callable, *args, **more):
        """function's result. A token among its arguments is told to cancel."""
        if "cancellation_token" in more:
            more["cancellation_token"] = colmap().CancellationToken()
        result = Future()

        def run() -> None:
            try:
                result.set_result(function(*args, **more))
            except BaseException as fault:  # noqa: BLE001 (told to the one who waits)
                result.set_exception(fault)

        self.running.append(result)
        # A thread of its own: COLMAP's random numbers would go on where they ended. And no two at a time: these share some.
        threading.Thread(target=run, daemon=True).start()
        try:
            while wait([result], 0.1).not_done:
                self.check()
        except BaseException:  # an interrupt too
            if "cancellation_token" in more:
                more["cancellation_token"].cancel()
            raise
        return result.result()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_) -> None:
        threading.Thread(target=self._clear, daemon=True).start()  # what cannot be stopped ends by itself, or with the process

    def _clear(self) -> None:
        wait(self.running)
        drop(self.place)


def looked_at(picture: np.ndarray) -> np.ndarray:
    """A picture, BGR, as it is looked at: small and grey."""
    height, width = picture.shape[:2]
    scale = min(LONGER / max(width, height), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA)


def write(place: Path, index: int, grey: np.ndarray, free: np.ndarray) -> None:
    """Put the picture of frame `index` and where nobody is in it where `extract` finds them. Raises LgdError disk."""
    try:
        for folder, name, picture in (("pictures", name_of(index), grey), ("free", f"{name_of(index)}.png", free)):
            (place / folder).mkdir(exist_ok=True)
            (place / folder / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())  # OpenCV's own writing takes ASCII alone on Windows
    except OSError:
        raise LgdError("disk", f"The temporary folder {place.parent} cannot be written.", "Free some space.") from None


def space(place: Path, pictures: int) -> tuple[float, float]:
    """MB free where `place` is, and needed for so many pictures: COLMAP ends the whole process where it can write no more."""
    return shutil.disk_usage(place).free / 1e6, DISK * pictures


def name_of(index: int) -> str:
    return f"{index:06d}.png"


def lens(focal: float, cam_K: np.ndarray | None, distortion: np.ndarray | None, scale: float, size: tuple[int, int]) -> tuple[str, str]:
    """COLMAP's model and parameters of the lens for pictures of this size (its first pixel's centre lies on 0.5, 0.5), that many times as
    large as the footage's, in whose px focal and cam_K are."""
    if cam_K is None:
        return "SIMPLE_PINHOLE", f"{focal * scale},{size[0] / 2},{size[1] / 2}"
    bent = np.zeros(8)
    bent[: len(distortion) if distortion is not None else 0] = distortion if distortion is not None else ()
    told = focal * scale, focal * scale * cam_K[1, 1] / cam_K[0, 0], (cam_K[0, 2] + 0.5) * scale, (cam_K[1, 2] + 0.5) * scale
    return "FULL_OPENCV", ",".join(str(float(value)) for value in (*told, *bent))


def extract(database: Path, seen_by: tuple[str, str], waiting: Waiting) -> None:
    """Find what is to be seen in each picture that was written, before the lens `seen_by`; makes the database."""
    pycolmap = colmap()
    reading = pycolmap.ImageReaderOptions()
    reading.mask_path, (reading.camera_model, reading.camera_params) = str(waiting.place / "free"), seen_by
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu, options.sift.max_num_features, options.sift.first_octave = False, FEATURES, 0
    one, pictures = pycolmap.CameraMode.SINGLE, waiting.place / "pictures"
    pycolmap.set_random_seed(1)
    with pycolmap.Database.open(database):
        pass  # makes it
    pycolmap.import_images(database, pictures, one, options=reading)  # in their order: threads would number them as they come
    waiting(
        pycolmap.extract_features, database, pictures, camera_mode=one, reader_options=reading,
        extraction_options=options, device=pycolmap.Device.cpu, cancellation_token=None,
    )  # fmt: skip


def seen_through(features: Path, seen_by: tuple[str, str], database: Path) -> None:
    """Copy what `extract` found to a database of its own, before another lens of the same model."""
    pycolmap = colmap()
    shutil.copyfile(features, database)
    with pycolmap.Database.open(database) as copy:
        (camera,) = copy.read_all_cameras()
        camera.params = [float(value) for value in seen_by[1].split(",")]
        copy.update_camera(camera)


def match(database: Path, waiting: Waiting, pairs: Iterable[tuple[int, int]] | None = None) -> None:
    """Find what is the same in pairs of pictures: those of these frames, or of each picture and those that follow it."""
    pycolmap = colmap()
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu, options.num_threads = False, 1  # more would draw other samples at each run
    if pairs is None:
        pairing, run = pycolmap.SequentialPairingOptions(), pycolmap.match_sequential
        pairing.overlap, pairing.quadratic_overlap, pairing.loop_detection = BESIDE, True, False
    else:
        pairing, run = pycolmap.ImportedPairingOptions(), pycolmap.match_image_pairs
        listed = database.with_suffix(".txt")
        listed.write_text("\n".join(f"{name_of(a)} {name_of(b)}" for a, b in pairs), encoding="utf-8")
        pairing.match_list_path = str(listed)
    waiting(run, database, matching_options=options, pairing_options=pairing, device=pycolmap.Device.cpu, cancellation_token=None)


def shifted(database: Path) -> list[tuple[tuple[int, int], bool]]:
    """The pairs of frames that show the same, and whether each differs by more than a turn of the camera."""
    pycolmap = colmap()
    shapes = pycolmap.TwoViewGeometryConfiguration
    with pycolmap.Database.open(database) as seen:
        frames = {image.image_id: int(image.name.split(".")[0]) for image in seen.read_all_images()}
        pairs, geometries = seen.read_two_view_geometries()
    of = [tuple(sorted(frames[k] for k in pycolmap.pair_id_to_image_pair(pair))) for pair in pairs]
    return [(pair, geometry.config in (shapes.CALIBRATED, shapes.UNCALIBRATED, shapes.PLANAR)) for pair, geometry in zip(of, geometries, strict=True)]
