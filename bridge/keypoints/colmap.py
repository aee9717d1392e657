# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP (pycolmap) at work on small pictures of a clip: what is seen in each outside the people, in which pairs it differs by more
than a turn of the camera, and where the camera was. Steps (`extract`, `compare`, `reconstruct`) run in processes of their own (`apart`)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..errors import LgdError

DISK, SEARCH = 0.4, 0.28  # MB of the temporary folder for a picture full of detail, and for what each search makes of it
LONGER = 640  # px of the longer side that is looked at
FEATURES, BESIDE = 1000, 6  # of a picture, and so many pictures on it is compared with each, and with those twice, four times ... as far on
# Of the pairs among STRETCH pictures, one after the other, somewhere: such a share, and so many, must differ by more than a turn of the camera.
SHIFTS, SOME, STRETCH = 0.05, 3, 45


def looked_at(picture: np.ndarray, longer: int = LONGER) -> np.ndarray:
    """A picture, BGR, as it is looked at: grey, and its longer side at most so many px."""
    height, width = picture.shape[:2]
    scale = min(longer / max(width, height), 1.0)
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


def check_space(place: Path, pictures: int, searches: int) -> None:
    """Raises LgdError disk where `place` has no room for what so many searches in so many pictures write."""
    free, needed = shutil.disk_usage(place).free / 1e6, (DISK + SEARCH * searches) * pictures
    if free < needed:
        text = f"The temporary folder {place.parent} has {free:.0f} MB free, and the search for the camera's path takes {needed:.0f}."
        raise LgdError("disk", text, "Free some space, or choose a shorter range.")


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


def extract(place: Path, seen_by: tuple[str, str]) -> dict:
    """Find what is to be seen in each picture that was written, before the lens `seen_by`; makes the database."""
    pycolmap = _colmap()
    reading = pycolmap.ImageReaderOptions()
    reading.mask_path, (reading.camera_model, reading.camera_params) = str(place / "free"), seen_by
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu, options.sift.max_num_features, options.sift.first_octave = False, FEATURES, 0
    one, pictures, database = pycolmap.CameraMode.SINGLE, place / "pictures", place / "features.db"
    pycolmap.set_random_seed(1)
    with pycolmap.Database.open(database):
        pass  # makes it
    pycolmap.import_images(database, pictures, one, options=reading)  # in their order: threads would number them as they come
    pycolmap.extract_features(
        database, pictures, camera_mode=one, reader_options=reading, extraction_options=options, device=pycolmap.Device.cpu
    )  # fmt: skip
    return {}


def compare(place: Path, seen_by: tuple[str, str], pairs: list[tuple[int, int]]) -> dict:
    """Of these pairs of frames those that show the same, pairs (N, 2), and whether each differs by more than a turn of the camera, differ (N)."""
    extract(place, seen_by)
    database = place / "features.db"
    _match(database, pairs)
    alike, differ = _shifted(database)
    return {"pairs": alike, "differ": differ}


def reconstruct(place: Path, seen_by: tuple[str, str], free_lens: bool) -> dict:
    """Where the camera was, by what `extract` found, before a lens of the same model: of COLMAP's reconstructions that with the most pictures
    as `camera_path.Reconstruction` has it; nothing where hardly any pair differs by more than a turn. free_lens: find the focal length too,
    from that of `seen_by` on."""
    pycolmap, own = _colmap(), Path(tempfile.mkdtemp(dir=place))
    database = own / "matches.db"
    shutil.copyfile(place / "features.db", database)
    with pycolmap.Database.open(database) as copy:
        (camera,) = copy.read_all_cameras()
        camera.params = [float(value) for value in seen_by[1].split(",")]
        copy.update_camera(camera)
    _match(database)
    if not _travels(*_shifted(database)):
        return {}
    options = pycolmap.GlobalPipelineOptions()
    options.random_seed, options.num_threads = 1, 1
    options.mapper.bundle_adjustment.refine_focal_length = free_lens
    options.mapper.bundle_adjustment.refine_extra_params = False
    found = pycolmap.global_mapping(database, place / "pictures", own, options=options)
    shutil.rmtree(own, ignore_errors=True)
    best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    if best is None:
        return {}
    known = {_frame(image): image.cam_from_world().matrix() for image in best.images.values() if image.has_pose}
    frames = np.array(sorted(known), int)
    views = np.stack([np.vstack((known[frame], (0, 0, 0, 1))) for frame in frames]) if len(frames) else np.zeros((0, 4, 4))
    return {
        "focal": next(iter(best.cameras.values())).params[0], "error": best.compute_mean_reprojection_error(),
        "observations": best.compute_num_observations(), "frames": frames, "poses": np.linalg.inv(views),
        "points": np.array([point.xyz for point in best.points3D.values() if point.track.length() >= 3]).reshape(-1, 3),
    }  # fmt: skip


def _colmap():
    import pycolmap

    pycolmap.logging.minloglevel = 3
    return pycolmap


def _match(database: Path, pairs: Iterable[tuple[int, int]] | None = None) -> None:
    """Find what is the same in pairs of pictures: those of these frames, or of each picture and those that follow it."""
    pycolmap = _colmap()
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
    run(database, matching_options=options, pairing_options=pairing, device=pycolmap.Device.cpu)


def _shifted(database: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (N, 2) of frames that show the same, and whether (N) each differs by more than a turn of the camera."""
    pycolmap = _colmap()
    shapes = pycolmap.TwoViewGeometryConfiguration
    with pycolmap.Database.open(database) as seen:
        frames = {image.image_id: _frame(image) for image in seen.read_all_images()}
        pairs, geometries = seen.read_two_view_geometries()
    of = [sorted(frames[k] for k in pycolmap.pair_id_to_image_pair(pair)) for pair in pairs]
    differ = [geometry.config in (shapes.CALIBRATED, shapes.UNCALIBRATED, shapes.PLANAR) for geometry in geometries]
    return np.array(of, int).reshape(-1, 2), np.array(differ, bool)


def _travels(pairs: np.ndarray, differ: np.ndarray) -> bool:
    """Whether a camera does in some stretch of the pictures of these pairs (N, 2) of frames; most of a clip it may stand."""
    _, at = np.unique(pairs, return_inverse=True)
    stretch = at.reshape(-1, 2).min(-1) // STRETCH
    return any(differ[stretch == one].sum() >= max(SHIFTS * (stretch == one).sum(), SOME) for one in np.unique(stretch))


def _frame(image) -> int:
    return int(image.name.split(".")[0])
