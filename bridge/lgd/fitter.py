# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit one person's keypoints: `fit(keypoints, options) -> Motion`. Both modes start and end here."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .. import camera, contact
from ..body.files import load_body
from ..body.landmarks import FAMILY
from ..body.smpl import BodyModel
from ..errors import LgdError
from ..keypoints.formats import to_internal
from ..keypoints.repair import reject_outliers, repair_swaps, to_fit
from ..keypoints.tracks import FEW, SEEN, Keypoints, shows_somebody
from ..keypoints.turned_rays import lens_of_turns, turns_of
from ..motion import Motion
from ..rotations import resample_rotations, resample_values
from .assemble import Found, assemble, posed_in_camera, skin_of, soles_of, with_planted_feet
from .checkpoint import load_network, weights_name
from .manhattan import told_focal
from .paper import SEEN as PAPER_SEEN
from .resample import is_slow, to_rate, without_pauses
from .solve_paper import solve_paper
from .solve_video import VideoSolver
from .steady import FARTHEST, fit_handheld, fit_steadied, fit_zoomed, widest, zooms

if TYPE_CHECKING:
    from ..keypoints.camera_path import CameraPath


FEW_FRAMES, MOST_THREADS = 16, 4
BY_GROUND = 0.95  # the world's confidence where the ground's own plane told what is up, and how far a camera travelled
BY_STEPS = 0.4  # of the world's confidence where steps alone told how far

Progress = Callable[[str, int, int], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class FitOptions:
    """All a fit depends on beside its keypoints.

    weights: a file of the user's own, or None for the mode's; focal: px, or None; T_world_cam: (4, 4) or (F, 4, 4) of a known camera; steps: learned steps, or None for the
    mode's own; device: auto, cpu, cuda, mps; betas: (10) to keep; body: an SMPL file, or None; trace: keep every
    step (paper mode); plant_feet: clean up the finished motion so (`planting`); path: of a camera that travels, in place of T_world_cam.
    """

    mode: str = "video"
    weights: Path | None = None
    focal: float | None = None
    T_world_cam: np.ndarray | None = None
    steps: int | None = None
    device: str = "auto"
    betas: np.ndarray | None = None
    body: str | None = None
    seed: int = 0
    trace: bool = False
    plant_feet: bool = False
    path: "CameraPath | None" = None


def fit(
    keypoints: Keypoints, options: FitOptions = FitOptions(), on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> tuple[Motion, dict | None]:  # fmt: skip
    """Fit one person.

    keypoints: one track (P == 1). Returns the Motion and, in paper mode with `trace`, a dict of every step's
    parameters. Raises LgdError: no_person where hardly anything is seen, bad_input, setup_incomplete, cancelled.
    """
    if keypoints.people != 1:
        raise LgdError("bad_input", "A fit takes one person at a time.", "Choose a person.")
    if options.steps is not None and not 0 <= options.steps <= 8:
        raise LgdError("bad_input", f"{options.steps} steps were asked for.", "Choose 0 to 8 steps.")
    _enough(keypoints, options.mode)
    device = pick_device(options.device)
    torch.default_generator.manual_seed(options.seed)  # torch.manual_seed takes a millisecond over devices not in use
    world = None if options.T_world_cam is None else np.asarray(options.T_world_cam, float)
    untold = world is None and options.path is None and options.mode == "video"  # how the camera moves is what the background tells

    def before(seen: Keypoints) -> tuple[Motion, dict | None]:
        turns = seen.camera_turns if untold else None
        if options.path is not None:
            return _fit_travelling(seen, options, options.path, device, on_progress, should_stop)
        if turns is None and (world is None or world.ndim == 2):
            return _fit(seen, options, device, on_progress, should_stop)
        return _fit_moving(seen, options, world, turns, device, on_progress, should_stop)

    with _threads(keypoints.frames), torch.inference_mode():
        cam_K = _intrinsics(keypoints, options)[0]
        if untold and cam_K.ndim == 2 and zooms(keypoints, float(cam_K[0, 0])):
            motion, trace = fit_zoomed(keypoints, cam_K[:2, 2], before)
        else:
            motion, trace = before(keypoints)
        if options.plant_feet:
            motion = with_planted_feet(motion, _body(options.body, str(device))[0])
        return motion, trace


def _fit_travelling(
    keypoints: Keypoints, options: FitOptions, path: "CameraPath", device: torch.device, on_progress: Progress | None, should_stop: Stop | None
) -> tuple[Motion, dict | None]:  # fmt: skip
    """A fit before a camera that travels along a path whose size, place and attitude the person tells."""
    from .scale import metric_path

    keypoints = dataclasses.replace(keypoints, camera_focal=None)  # a path has the lens that it was found with
    cam_K, source = _intrinsics(keypoints, options)
    if source == "assumed":
        cam_K, source = camera.camera_matrix(path.focal, *keypoints.image_size), "estimated"
    keypoints = dataclasses.replace(keypoints, cam_K=cam_K)
    certain, told = _told_by_the_person(keypoints, options, path.world, device, on_progress, should_stop)
    world, grounded = metric_path(path, *told)
    motion, trace = _fit_moving(keypoints, dataclasses.replace(options, focal=None, path=None), world, None, device, on_progress, should_stop)
    motion.focal_source, motion.world_confidence = source, BY_GROUND if grounded else BY_STEPS * certain
    return motion, trace


def _told_by_the_person(
    keypoints: Keypoints, options: FitOptions, world: np.ndarray, device: torch.device, on_progress: Progress | None, should_stop: Stop | None
) -> tuple[float, tuple[np.ndarray, ...]]:  # fmt: skip
    """What a first solve before a camera whose path (F, 4, 4) has no certain attitude tells of it: how certain its up is, and what `metric_path`
    and `turning_path` take beside the path. keypoints: with cam_K."""
    model, _ = _body(options.body, str(device))
    before = dataclasses.replace(options, T_world_cam=world, weights=options.weights if options.mode == "video" else None, steps=None)
    progress = on_progress or (lambda stage, done, total: None)
    found = _solve_video(keypoints, before, model, np.asarray(keypoints.cam_K, float), "file", progress, _stopper(should_stop))
    joints, axes, _ = posed_in_camera(model, keypoints.layout, found.rotations, found.betas.to(model.device))
    betas = found.betas.cpu().numpy().astype(float)
    soles, skin = soles_of(model, joints, axes, betas), skin_of(model, joints, axes, betas)
    seen = shows_somebody(keypoints.confidence[0])
    return found.world_confidence, (found.up, found.pelvis, joints, soles, seen, np.asarray(keypoints.times(), float), skin)


def _fit_moving(
    keypoints: Keypoints, options: FitOptions, world: np.ndarray | None, turns: np.ndarray | None, device: torch.device,
    on_progress: Progress | None, should_stop: Stop | None,
) -> tuple[Motion, dict | None]:  # fmt: skip
    """A fit before a camera whose path is known (world), or of which is known how it turns."""
    cam_K, source = _intrinsics(keypoints, options)
    if source == "assumed" and options.mode == "video":  # how a turning camera moves the points depends on its lens
        guess = _fit(dataclasses.replace(keypoints, lines=None), options, device, on_progress, should_stop)[0]
        cam_K, source = guess.cam_K, guess.focal_source
        told = told_focal(keypoints, guess.T_world_cam[2, :3]) if world is None else None
        if told:
            cam_K = camera.camera_matrix(told, *keypoints.image_size)
        else:
            keypoints = dataclasses.replace(keypoints, lines=None)  # of a guessed lens they tell nothing

    def once(seen: Keypoints, path: np.ndarray | None = None) -> tuple[Motion, dict | None]:
        return _fit(seen, dataclasses.replace(options, focal=None, T_world_cam=path), device, on_progress, should_stop)

    if world is not None:
        motion, trace = fit_steadied(keypoints, world, cam_K, options.mode == "video", once)
    elif widest(turned := turns_of(turns, cam_K, lens_of_turns(keypoints))) <= FARTHEST:
        motion, trace = fit_handheld(keypoints, turned, cam_K, once)
    else:
        from .scale import turning_path

        world = np.tile(np.eye(4), (len(turned), 1, 1))
        world[:, :3, :3] = turned
        certain, told = _told_by_the_person(dataclasses.replace(keypoints, cam_K=cam_K), options, world, device, on_progress, should_stop)
        motion, trace = fit_steadied(keypoints, turning_path(world, *told), cam_K, True, once)
        motion.world_confidence = certain
    motion.focal_source = source
    return motion, trace


def _fit(
    keypoints: Keypoints, options: FitOptions, device: torch.device, on_progress: Progress | None, should_stop: Stop | None
) -> tuple[Motion, dict | None]:  # fmt: skip
    model, data = _body(options.body, str(device))
    cam_K, source = _intrinsics(keypoints, options)
    stop = _stopper(should_stop)
    progress = on_progress or (lambda stage, done, total: None)
    slow = is_slow(keypoints.times())
    per_frame, trace = None, None
    if options.mode == "video":
        found = _solve_video(keypoints, options, model, cam_K, source, progress, stop)
    else:
        steps = 3 if options.steps is None else options.steps
        found, per_frame, trace = solve_paper(
            _network("paper", str(device), options.weights), keypoints, model, cam_K, source, options.betas, steps, options.trace,
            progress, stop,
        )  # fmt: skip
    progress("place", 0, 1)
    weights = weights_name(options.mode, options.weights)
    motion = assemble(keypoints, options.T_world_cam, options.mode, weights, model, data, found, slow)
    motion.betas_per_frame = per_frame
    return motion, trace


def _enough(keypoints: Keypoints, mode: str) -> None:
    """Raises LgdError no_person where no frame shows enough of a body to tell where it is and how it stands."""
    points = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)[1]
    most = int((points > (SEEN if mode == "video" else PAPER_SEEN)).sum(-1).max())
    if most < FEW:
        text = f"No frame shows more than {most} of the points of the person's body." if most else "The person's body is seen in no frame."
        raise LgdError("no_person", text, "Choose another range or person, or detect the footage again.")


@contextlib.contextmanager
def _threads(frames: int) -> Iterator[None]:
    """Few torch threads within: handing small tensors to others costs more than they save, for one frame all of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 1 if frames < FEW_FRAMES else MOST_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda, cuda:1 or mps. Raises LgdError where the machine has none of that kind."""
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if cards else "cpu"  # MPS is slower than the CPU for networks this small
    kind, _, number = name.partition(":")
    have = {"cpu": not number, "cuda": int(number or 0) < cards, "mps": not number and torch.backends.mps.is_available()}
    if kind not in have:
        raise LgdError("bad_input", f"The device {name} is not known.", "Choose auto, cpu, cuda or mps.")
    if not have[kind]:
        raise LgdError("bad_input", f"This machine offers no {name} device.", "Choose auto or cpu.")
    return torch.device(name)


def _body(path: str | None, device: str) -> tuple[BodyModel, dict]:
    written = os.stat(path).st_mtime if path and os.path.isfile(path) else None
    return _kept_body(path, device, written)


@lru_cache(maxsize=4)
def _kept_body(path: str | None, device: str, written: float | None) -> tuple[BodyModel, dict]:
    data = load_body(None if path is None else Path(path))
    return BodyModel(data, device), data


def _network(mode: str, device: str, weights: Path | None, family: str | None = None):
    return _kept_network(mode, device, weights, family, weights and weights.stat().st_mtime)


@lru_cache(maxsize=8)
def _kept_network(mode: str, device: str, weights: Path | None, family: str | None, written: float | None):
    return load_network(mode, device, weights, family)


def _stopper(should_stop: Stop | None) -> Callable[[], None]:
    def check() -> None:
        if should_stop is not None and should_stop():
            raise LgdError("cancelled", "The fit was cancelled.")

    return check


def _intrinsics(keypoints: Keypoints, options: FitOptions) -> tuple[np.ndarray, str]:
    """The camera matrix told, or assumed: (3, 3) or (F, 3, 3), and where it comes from."""
    width, height = keypoints.image_size
    if options.focal is not None:
        if not options.focal > 0:
            raise LgdError("bad_input", "The focal length must be above 0 px.", "Leave it out if it is not known.")
        return camera.camera_matrix(options.focal, width, height), "given"
    if keypoints.cam_K is not None:
        return np.asarray(keypoints.cam_K, float), "file"
    if keypoints.camera_focal is not None and options.mode == "video":
        return camera.camera_matrix(keypoints.camera_focal, width, height), "estimated"
    return camera.camera_matrix(camera.assumed_focal(width, height), width, height), "assumed"


def _solve_video(
    keypoints: Keypoints, options: FitOptions, model: BodyModel, cam_K: np.ndarray, source: str, progress: Progress,
    stop: Callable[[], None],
) -> Found:  # fmt: skip
    """Repair the keypoints, bring them to 30 fps, solve, and bring the result back to the source's frames."""
    device = model.device
    progress("repair", 0, 1)
    points, confidence, labels = repair_swaps(*to_fit(keypoints))
    times = np.asarray(keypoints.times(), float)
    confidence = reject_outliers(points, confidence, times)
    solver = VideoSolver(_network("video", str(device), options.weights, FAMILY[keypoints.layout]), model, keypoints.layout)
    rays = camera.to_rays(points, cam_K)
    clock = without_pauses(times)
    grid, grid_rays, grid_confidence = to_rate(rays, confidence, clock)
    as_torch = lambda a: torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=device)  # noqa: E731
    betas = None if options.betas is None else as_torch(options.betas)
    static = options.T_world_cam is None or options.T_world_cam.ndim == 2
    stop()

    def solve(known: bool, scale: float, hypotheses: bool):
        return solver.solve(
            as_torch(grid_rays / scale), as_torch(grid_confidence), focal_known=known, static=static, betas=betas,
            steps=options.steps, hypotheses=hypotheses, should_stop=stop,
            on_progress=lambda done, total: progress("fit", done, total),
        )  # fmt: skip

    guessed = False
    if source == "assumed":
        # The longer side bounds what a lens may be; the network's estimate is told to a second, full solve.
        guess = solve(False, 1.0, False)
        longer = max(keypoints.image_size)
        focal = float(np.asarray(cam_K)[0, 0])
        low, high = (math.log(r * longer / focal) for r in camera.FOCAL_RANGE)
        told = None if keypoints.lines is None else told_focal(keypoints, _balance(model, keypoints.layout, guess, grid_confidence))
        guessed = told is None
        scale = told / focal if told else math.exp(float(np.clip(guess.log_focal, low, high)))
        cam_K = cam_K.copy()
        cam_K[0, 0] *= scale
        cam_K[1, 1] *= scale
        source = "estimated"
        solved = solve(True, scale, True)
    else:
        solved = solve(True, 1.0, True)
    if grid is None:
        at = lambda x, smooth=False: x.cpu()  # noqa: E731
        rotations = solved.rotations.cpu()
    else:
        old, new = torch.as_tensor(grid), torch.as_tensor(clock)
        at = lambda x, smooth=False: resample_values(x.cpu(), old, new, smooth)  # noqa: E731
        rotations = resample_rotations(solved.rotations.cpu(), old, new, smooth=True)
    doubt = at(solved.doubt).numpy()
    ups = at(solved.up).numpy()
    if not static:
        ups = np.einsum("fab,fb->fa", options.T_world_cam[:, :3, :3], ups)
    up, agreement = contact.average_direction(ups, confidence.sum(-1) + 1e-3)
    relative = model.shaped(solved.betas, keypoints.layout).posed(rotations.to(device)).points.cpu().numpy().astype(float)
    seen = np.where(confidence > 0.05, confidence, 0)
    pelvis = camera.settle(at(solved.pelvis, True).numpy().astype(float), relative, camera.to_rays(points, cam_K), seen, times)
    return Found(
        rotations=rotations, pelvis=pelvis, betas=solved.betas.cpu(),
        up=up, anchored=True,
        world_confidence=float(np.clip(1 - (1 - agreement) * 20, 0.05, 0.95)),
        joint_confidence=_confidence_of(doubt, confidence), focal_source=source, cam_K=cam_K, lens_told=not guessed,
        contacts=at(solved.contact)[:, :4].clamp(0, 1).numpy(), labels=labels,
    )  # fmt: skip


def _balance(model: BodyModel, layout: str, solved, confidence: np.ndarray) -> np.ndarray:
    """What is up (3), of a solve before a camera that stands still."""
    joints, axes, _ = posed_in_camera(model, layout, solved.rotations.cpu(), solved.betas.to(model.device))
    soles = soles_of(model, joints, axes, solved.betas.cpu().numpy().astype(float))
    up, _ = contact.average_direction(solved.up.cpu().numpy(), confidence.sum(-1) + 1e-3)
    return contact.balanced_up(up, joints, soles, solved.contact[:, :4].clamp(0, 1).cpu().numpy(), solved.pelvis.cpu().numpy())[0]


def error_of(confidence: np.ndarray) -> np.ndarray:
    """The joint error (m) that video mode's confidence above 0 stands for."""
    return 0.1 * np.sqrt(1 / np.clip(confidence, 1e-4, 1) - 1)


def _confidence_of(doubt: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Confidence (F, 24) from the expected joint error (F, 24) m: 0.5 at 10 cm; 0 where nobody is seen."""
    value = 1 / (1 + (doubt / 0.1) ** 2)
    value[~shows_somebody(confidence)] = 0
    return value
