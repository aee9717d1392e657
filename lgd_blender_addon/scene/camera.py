# SPDX-License-Identifier: GPL-3.0-or-later
"""The solved camera and the footage behind it; and a camera of the scene as the solver wants it."""

import os
from contextlib import suppress
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from .._bridge import LgdError
from .axes import camera_frame, camera_object, continuous, matrix_quaternions
from .carriage import seen_to_move
from .footage import Footage, folder_files, from_clip, numbered, offset_path, same_footage
from .keyframes import Take, bag_of, find_curve, sample, write_curve, write_curves
from .takes import played_keys

SENSOR = 36.0
PICTURES_PROPERTY = "lgd_pictures"  # of a camera that moves or zooms with the footage: its first and last key's frames, then frames and the pictures first shown on them, in turn


def lens_of(cam_K, size):
    """Blender's lens (mm), shift_x and shift_y for cam_K (..., 3, 3) px and a picture of size (w, h) px.

    Sensor fit is horizontal, the sensor 36 mm wide; both shifts are in widths. Pixel (0, 0) is the centre of the
    top-left pixel (contracts), so the picture's middle is ((w - 1) / 2, (h - 1) / 2).
    """
    K = np.asarray(cam_K, dtype=float)
    w, h = (float(value) for value in size)
    return (
        K[..., 0, 0] / w * SENSOR,
        -(K[..., 0, 2] - (w - 1) / 2) / w,
        (K[..., 1, 2] - (h - 1) / 2) / w,
    )


def build_camera(name: str, cam_K, size, T_world_cam, times, take: Take, collection):
    """A camera object of the solved lens and place; moving or zooming ones get keys at times (F,) in `take`."""
    data = bpy.data.cameras.new(name)
    camera = bpy.data.objects.new(name, data)
    collection.objects.link(camera)
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR
    data.clip_end = 1000.0
    data.passepartout_alpha = 0.7
    lens, shift_x, shift_y = lens_of(cam_K, size)
    data.lens, data.shift_x, data.shift_y = (float(np.ravel(value)[0]) for value in (lens, shift_x, shift_y))
    if np.ndim(lens) and np.ptp(np.stack([lens, shift_x, shift_y]), axis=1).max() > 1e-6:
        for path, values in (("lens", lens), ("shift_x", shift_x), ("shift_y", shift_y)):
            write_curve(take.bag(data), path, 0, times, values)
    place_camera(camera, T_world_cam, times, take)
    return camera


def place_camera(camera, T_world_cam, times, take: Take) -> None:
    """Put a camera object at T_world_cam (4, 4), or key it along (F, 4, 4) at times (F,)."""
    world = camera_object(T_world_cam)
    camera.rotation_mode = "QUATERNION"
    first = world if world.ndim == 2 else world[0]
    camera.matrix_basis = Matrix(first.tolist())
    if world.ndim == 3 and np.abs(world - world[:1]).max() > 1e-7:
        bag = take.bag(camera)
        write_curves(bag, "location", times, world[:, :3, 3])
        write_curves(bag, "rotation_quaternion", times, continuous(matrix_quaternions(world[:, :3, :3])))


def remember_pictures(camera, times, frames, pictures) -> None:
    """Note that the keys of a camera at times (K,) are of the pictures (N,), as Blender counts them, that are first shown on frames (N,)."""
    camera[PICTURES_PROPERTY] = [float(times[0]), float(times[-1]), *np.column_stack((frames, pictures)).astype(float).ravel().tolist()]


def moves_elsewhere(camera, frames, pictures, real: bool) -> bool:
    """Whether a camera that turns or zooms by keys of its own, as a solve leaves them, does not show one of these pictures (N,) on its frame
    (N,): past its keys it stands still, and a strip that was reversed or slipped since shows others. Keys in real time lie between frames, and are
    never taken again."""
    held = [played_keys(camera, "rotation_quaternion", k) for k in range(4)] + [played_keys(camera.data, "lens")]
    keys = [(times, values) for times, values in held if len(times)]
    if not any(np.ptp(values) > 1e-6 for _, values in keys):
        return False
    ends, *noted = np.reshape(camera.get(PICTURES_PROPERTY, (0, 0)), (-1, 2)).tolist()
    known = {(round(frame, 2), int(picture)) for frame, picture in noted}
    wanted = {(round(frame, 2), int(picture)) for frame, picture in zip(frames, pictures, strict=True)}
    return real or not wanted <= known or np.abs(keys[0][0][[0, -1]] - ends).max() > 0.01  # or its keys were moved


def show_footage(scene, camera, footage: Footage, frames, sources, take: Take, straight: bool = False) -> None:
    """Put the footage behind a camera so that Blender's frames (N,) show the source frames (N,).

    An even pace is an offset; anything else (speed, real time) keys the offset frame by frame. straight: without the
    distortion that its clip's lens tells, which clips alone can show.
    """
    data = camera.data
    background = data.background_images.new()
    data.show_background_images = True
    background.alpha = 1.0
    background.display_depth = "BACK"
    fit_background(scene, background, footage.size)
    clip = bpy.data.movieclips.get(footage.block) if footage.place in ("CLIP", "CAMERA") else None
    shown = None if clip is None else _read(clip)  # an image behind a camera may have the name of a clip, which is another or shows it on other frames
    if shown is not None and shown.path == footage.path and _as_shown(shown, frames, sources):
        background.source = "MOVIE_CLIP"
        background.clip = clip
        background.clip_user.use_render_undistorted = straight
        return
    image, numbers = _image(footage)
    background.source = "IMAGE"
    background.image = image
    user = background.image_user
    user.use_auto_refresh = True
    if image.source == "FILE":
        return
    offsets = _window(user, image, numbers, footage, frames, sources)
    if np.ptp(offsets):
        _key_offsets(take.bag(data), offset_path(len(data.background_images) - 1), frames, offsets)


def _key_offsets(bag, path: str, frames, offsets) -> None:
    change = np.concatenate([[True], np.diff(offsets) != 0])
    write_curve(bag, path, 0, np.asarray(frames)[change], offsets[change], interpolation="CONSTANT")


def follow_footage(camera, footage: Footage, frames, sources, take: Take) -> None:
    """Have the footage that an earlier solve put behind a camera show on Blender's frames (N,) the source frames (N,): another
    range, or another pace, or the same where the footage was moved since. What shows them already stays as it is: the earlier solve may
    have been of more. `take` gets the keys of a camera that has none yet."""
    clips = [b for b in camera.data.background_images if b.source == "MOVIE_CLIP" and b.clip is not None]
    lagging = [b for b in clips if not _keeps_step(b.clip, footage, frames, sources)]
    backgrounds = [(i, b) for i, b in enumerate(camera.data.background_images) if b in lagging or (b.source == "IMAGE" and b.image is not None)]
    if not backgrounds:
        return
    image, numbers = _image(footage)
    for background in lagging:  # a clip shows its pictures one a frame, from its own start on
        background.source, background.image, background.image_user.use_auto_refresh = "IMAGE", image, True
    for index, background in backgrounds:
        if same_footage(*(bpy.path.abspath(shown.filepath, library=shown.library) for shown in (background.image, image))):
            background.image = image  # the project was moved since, or the footage
        if background.image != image or image.source == "FILE":
            continue
        user, path = background.image_user, offset_path(index)
        curve, before = find_curve(camera.data, path), (user.frame_start, user.frame_duration, user.frame_offset)
        # A window that begins before frame 1 counts the pictures from there: compared is what is shown.
        held = (np.full(len(frames), before[2]) if curve is None else sample(curve, frames)) - before[0]
        inside = before[0] <= frames[0] and frames[-1] < before[0] + before[1]
        offsets = _window(user, image, numbers, footage, frames, sources)
        if inside and np.abs(held - offsets + user.frame_start).max() < 0.5:  # it shows the same already
            user.frame_start, user.frame_duration, user.frame_offset = before
            continue
        user.frame_duration = max(user.frame_duration, before[1])
        if curve is not None:
            bag_of(camera.data).fcurves.remove(curve)
        if np.ptp(offsets):
            bag = bag_of(camera.data) or take.bag(camera.data)
            _key_offsets(bag, path, frames, offsets)


def _window(user, image, numbers, footage: Footage, frames, sources):
    """Set which pictures an image's user shows; returns the offset of each frame, of which it has the first."""
    wanted = numbers[np.clip(sources, 0, len(numbers) - 1)] if footage.is_folder else np.asarray(sources) + 1
    offsets = wanted - np.asarray(frames)
    if np.ptp(offsets):
        _showable(Path(footage.path), int(wanted.max()), 2**24)  # keys hold single precision
    # A window from frame 1 on that is long enough for every frame; the offset alone then chooses the picture.
    user.frame_start = 1
    user.frame_duration = int(max(frames[-1], len(numbers), image.frame_duration, 1)) + 1
    user.use_cyclic = False
    user.frame_offset = int(offsets[0])
    if frames[0] < 1:
        # Before its first frame Blender shows the first picture: start the window where the take starts.
        user.frame_start = int(frames[0])
        offsets = offsets + int(frames[0]) - 1
        user.frame_duration = int(frames[-1] - frames[0]) + 1
        user.frame_offset = int(offsets[0])
    return offsets


def _keeps_step(clip, footage: Footage, frames, sources) -> bool:
    """Whether a clip shows on Blender's frames (N,) the source frames (N,) of a footage, or is another's."""
    shown = _read(clip)
    return shown is None or shown.path != footage.path or _as_shown(shown, frames, sources)


def _read(clip) -> Footage | None:
    try:
        return from_clip(clip)
    except LgdError:  # its file is gone
        return None


def _as_shown(footage: Footage, frames, sources) -> bool:
    place = np.asarray(frames) - footage.start
    inside = (place >= 0) & (place < len(footage.table))
    return bool(np.array_equal(footage.table[place[inside]], np.asarray(sources)[inside]))


def _image(footage: Footage):
    """The image data-block of a footage, and the number in the file's name of each source frame."""
    path = Path(footage.path)
    if not footage.is_folder:
        return _loaded(path, "MOVIE"), np.arange(1, max(len(footage.table), 1) + 1)
    names = folder_files(path) if path.is_dir() else [path.name]
    folder = path if path.is_dir() else path.parent
    if len(names) == 1:
        return _loaded(folder / names[0], "FILE"), np.ones(1, dtype=int)
    used = np.unique(footage.table[footage.table >= 0])
    first, numbers = _sequence(folder, names, used)
    _showable(folder, int(numbers[used].max()))
    return _loaded(folder / first, "SEQUENCE"), numbers


def _sequence(folder: Path, names: list[str], used) -> tuple[str, np.ndarray]:
    """The first picture of the numbered sequence of which those used are, by their places among the names (N) of a folder's, and the numbers (N). Raises
    LgdError where Blender, which counts on in the first one's name, would not find them."""
    parts = [numbered(name) or (name, "0", "") for name in names]
    head, _, tail = parts[used[0]]
    first = next(k for k, part in enumerate(parts) if part[::2] == (head, tail))
    numbers = np.array([int(part[1]) for part in parts])
    if any(names[k] != f"{head}{numbers[k]:0{len(parts[first][1])}d}{tail}" for k in used):
        raise LgdError(
            "bad_input", f"The pictures of {folder.name} do not show behind the camera: their names differ in more than one number. Number them from 1 to "
            "see them there.",
        )  # fmt: skip
    return names[first], numbers


def _showable(folder: Path, number: int, most: int = 2**31 - 2**20) -> None:
    """Raises LgdError for numbers, in the names of pictures, that Blender cannot count up to."""
    if number > most:
        raise LgdError(
            "bad_input", f"The pictures of {folder.name} do not show behind the camera: the numbers in their names are larger than Blender counts. "
            "Number them from 1 to see them there.",
        )  # fmt: skip


def _loaded(path: Path, source: str):
    """The image data-block of a file as a movie, a sequence or a picture. Blender's own `check_existing` passes over movies that are open,
    and would make a sequence of a picture that is used elsewhere."""
    for image in bpy.data.images:
        if image.source == source and image.library is None and Path(os.path.normpath(bpy.path.abspath(image.filepath))) == path:
            if source != "FILE":  # which may be painted on
                image.reload()  # another take may have been saved under its name
            return image
    image = bpy.data.images.load(str(path))
    image.source = source
    if bpy.data.filepath and bpy.context.preferences.filepaths.use_relative_paths:  # as Blender's own file browser does: projects move
        with suppress(ValueError):  # on another drive
            image.filepath = bpy.path.relpath(str(path))
    return image


def fit_background(scene, background, size) -> None:
    """Make the footage as wide as the camera's frame, whatever the render size: the lens is fitted to the width."""
    if not size[0] or not size[1]:
        return
    background.frame_method = "FIT" if _wider(size, scene.render) >= 1 else "CROP"


def _wider(size, render) -> float:
    """How many times as wide for its height a picture (w, h) is as the camera's frame."""
    return size[0] / size[1] / (render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y))


def camera_for_solver(scene, camera, size, frames, background=None, aspect=1.0) -> dict:
    """T_world_cam and cam_K of a scene's camera over Blender's frames (F,), for a picture of size (w, h) px.

    background: the one that shows the picture behind the camera, by which it lies in the camera's frame; None: it fills it,
    with pixels `aspect` times as wide as high.

    A still camera gives (4, 4) and (3, 3), a moving or zooming one (F, 4, 4) and (F, 3, 3). The scene's frame is put
    back afterwards. Raises LgdError for a lens without perspective, and for a moving camera that Blender does not evaluate.
    """
    if camera.data.type != "PERSP":
        raise LgdError(
            "bad_input", f"The camera {camera.name} is {'orthographic' if camera.data.type == 'ORTHO' else 'panoramic'}; the solver knows perspective alone.",
            "Make it perspective, or set Camera to New.",
        )  # fmt: skip
    moving = _may_move(camera)
    if carried(camera) or any(find_curve(camera.data, path) for path in ("lens", "shift_x", "shift_y")):
        seen_to_move(camera)
    before, sub = scene.frame_current, scene.frame_subframe
    places, lenses = [], []
    try:
        for frame in np.asarray(frames, dtype=float) if moving else [before + sub]:
            if moving:
                scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
            graph = bpy.context.evaluated_depsgraph_get()
            evaluated = camera.evaluated_get(graph)
            places.append(np.array(evaluated.matrix_world))
            lenses.append(_intrinsics(evaluated, graph, size, scene.render, background, aspect))
    finally:
        if moving:
            scene.frame_set(before, subframe=sub)
    T, K = camera_frame(np.array(places)), np.array(lenses)
    still = len(T) == 1 or np.abs(T - T[:1]).max() < 1e-6
    steady = len(K) == 1 or np.abs(K - K[:1]).max() < 1e-3
    return {"T_world_cam": T[0] if still else T, "cam_K": K[0] if steady else K}


def _may_move(item) -> bool:
    return carried(item) or any(o.data and o.data.animation_data for o in _and_parents(item))


def carried(item) -> bool:
    """Whether anything may move an object, not only change its lens or the pictures behind it."""
    return any(o.animation_data or len(o.constraints) for o in _and_parents(item))


def _and_parents(item) -> list:
    return [item, *_and_parents(item.parent)] if item is not None else []


def part_of_frame(size, render, method: str) -> tuple[float, float]:
    """The picture's width and height in those of the camera's frame, as Blender lays it there."""
    wider = _wider(size, render)
    if method == "STRETCH":
        return 1.0, 1.0
    return (1.0, 1 / wider) if (wider >= 1) == (method == "FIT") else (wider, 1.0)


def _intrinsics(camera, graph, size, render, background, aspect) -> np.ndarray:
    w, h = size
    if background is None:
        P = np.array(camera.calc_matrix_camera(graph, x=int(w), y=int(h), scale_x=aspect))
    else:
        P = np.array(
            camera.calc_matrix_camera(
                graph, x=render.resolution_x, y=render.resolution_y, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
            )
        )
        width, height = part_of_frame(size, render, background.frame_method)
        P[0] /= width
        P[1] /= height
    return np.array([
        [P[0, 0] * w / 2, 0.0, (1 - P[0, 2]) * w / 2 - 0.5],
        [0.0, P[1, 1] * h / 2, (1 + P[1, 2]) * h / 2 - 0.5],
        [0.0, 0.0, 1.0],
    ])  # fmt: skip
