# SPDX-License-Identifier: GPL-3.0-or-later
"""Films that carry their frame numbers in their pictures, and what Blender shows of them."""

from pathlib import Path

import bpy
import numpy as np

BITS = 10
WIDTH, HEIGHT = BITS * 16, 64


def _picture(number: int, path: Path) -> None:
    row = np.repeat([(number >> bit) & 1 for bit in range(BITS)], 16).astype(np.float32)
    pixels = np.ones((HEIGHT, WIDTH, 4), np.float32)
    pixels[..., :3] = row[None, :, None]
    image = bpy.data.images.new("frame", WIDTH, HEIGHT)
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)


def make_frames(folder, count: int, first: int = 1) -> Path:
    """A folder of numbered pictures frame_0001.png ... that show 0, 1, 2 ..."""
    folder = Path(folder) / f"frames{count}"
    if not folder.exists():
        folder.mkdir()
        for number in range(count):
            _picture(number, folder / f"frame_{number + first:04d}.png")
    return folder


def _plain(scene, fps) -> None:
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = WIDTH, HEIGHT, 100
    render.fps, render.fps_base = fps
    render.use_sequencer = True
    scene.view_settings.view_transform = "Standard"


def sequences(scene):
    """The collection of a scene's strips in any version."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def make_plain(folder, count: int, fps) -> str:
    """Such a movie without B-frames, whose pictures lie in the file in the order of time."""
    return make_movie(folder, count, fps, "MPEG4")


def make_movie(folder, count: int, fps, codec: str = "H264") -> str:
    """An mp4 of `count` such pictures at fps = (rate, base)."""
    path = Path(folder) / f"movie_{codec}_{fps[0]}_{fps[1]}_{count}.mp4"
    if path.exists():
        return str(path)
    frames = make_frames(folder, count)
    scene = bpy.data.scenes.new("film")
    _plain(scene, fps)
    if bpy.app.version >= (5, 0, 0):
        scene.render.image_settings.media_type = "VIDEO"
    return _encode(scene, frames, count, path, codec)


def _encode(scene, frames, count, path, codec) -> str:
    files = sorted(f.name for f in frames.iterdir())
    strip = sequences(scene).new_image("frames", str(frames / files[0]), 1, 1)
    for name in files[1:]:
        strip.elements.append(name)
    scene.frame_start, scene.frame_end = 1, count
    render = scene.render
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format = "MPEG4"
    render.ffmpeg.codec = codec
    render.ffmpeg.constant_rate_factor = "HIGH"
    render.filepath = str(path)
    render.use_file_extension = False
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return str(path)


def displayed_as_image(path, frames, duration: int) -> list[int]:
    """The same of an image datablock of the movie, as it stands behind a camera: shown by a plane that fills the picture."""
    scene = bpy.data.scenes.new("plane")
    _plain(scene, (30, 1.0))
    scene.render.use_sequencer = False
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    mesh = bpy.data.meshes.new("plane")
    mesh.from_pydata([(-5, -2, 0), (5, -2, 0), (5, 2, 0), (-5, 2, 0)], [], [(0, 1, 2, 3)])
    mesh.uv_layers.new().data.foreach_set("uv", [0, 0, 1, 0, 1, 1, 0, 1])
    material = bpy.data.materials.new("film")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    texture, light, out = (nodes.new(n) for n in ("ShaderNodeTexImage", "ShaderNodeEmission", "ShaderNodeOutputMaterial"))
    texture.image, texture.interpolation = bpy.data.images.load(str(path)), "Closest"
    user = texture.image_user
    user.frame_start, user.frame_duration, user.frame_offset, user.use_auto_refresh = 1, duration, 0, True
    links.new(texture.outputs[0], light.inputs[0])
    links.new(light.outputs[0], out.inputs[0])
    mesh.materials.append(material)
    scene.collection.objects.link(bpy.data.objects.new("plane", mesh))
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.type, camera.data.ortho_scale, camera.location = "ORTHO", 10, (0, 0, 3)
    scene.collection.objects.link(camera)
    scene.camera, before = camera, bpy.context.window.scene
    bpy.context.window.scene = scene  # images follow the frames of the scene in the window alone
    try:
        return displayed(scene, frames)
    finally:
        bpy.context.window.scene = before
        bpy.data.images.remove(texture.image)
        bpy.data.scenes.remove(scene)


def displayed(scene, frames, folder="/tmp") -> list[int]:
    """The numbers of the pictures that the scene's sequencer shows on the given frames."""
    import tempfile

    fps, sequencer = (scene.render.fps, scene.render.fps_base), scene.render.use_sequencer
    _plain(scene, fps)
    scene.render.use_sequencer = sequencer
    out = []
    target = Path(tempfile.mkdtemp()) / "shown.png"
    scene.render.image_settings.file_format = "PNG"
    for frame in frames:
        scene.frame_set(frame)
        scene.render.filepath = str(target)
        bpy.ops.render.render(write_still=True, scene=scene.name)
        image = bpy.data.images.load(str(target))
        pixels = np.empty(WIDTH * HEIGHT * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        row = pixels.reshape(HEIGHT, WIDTH, 4)[HEIGHT // 2, 8::16, 0]
        out.append(int(sum((value > 0.5) << bit for bit, value in enumerate(row))))
    return out
