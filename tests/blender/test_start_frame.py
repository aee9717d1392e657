# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in the scene's time a file begins, what goes along when that changes, and which frames a list of people is of."""

import bpy
import pytest

from lgd_blender_addon.scene import keyframes


def test_a_file_begins_where_the_scene_does(script):
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.lgd.start = 1001, 1012, 1001
    bpy.ops.lgd.fit()
    (rig,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    action = rig.animation_data.action
    assert (action.frame_start, action.frame_end) == (1001, 1024) and script.asked[-1][1]["source"]["frames"] == [0, 24]
    (background,) = scene.camera.data.background_images
    user = background.image_user
    assert user.frame_offset == -1000 and user.frame_start + user.frame_duration > 1024
    scene.lgd.range = "SCENE"
    bpy.ops.lgd.fit()
    assert script.asked[-1][1]["source"]["frames"] == [0, 12]


def skeletons(frame: int) -> bool:
    """Whether people, not boxes alone, are drawn on a frame."""
    from lgd_blender_addon import overlay

    scene = bpy.context.scene
    return len(overlay.lines_at(frame, scene)) > sum(box.first <= frame <= box.last for box in scene.lgd.boxes)


def listed_first() -> int:
    """The first frame of the first person, as the panel's list draws it."""
    from types import SimpleNamespace

    from lgd_blender_addon import panels

    texts = []
    row = SimpleNamespace(prop=lambda *a, **k: None, label=lambda text, **k: texts.append(text))
    row.row = lambda **k: row
    show = bpy.context.window_manager.lgd
    panels.LGD_UL_people.draw_item(None, bpy.context, row, show, show.people[0], 0, show, "active_person")
    return int(texts[1].split("-")[0])


def test_footage_that_is_moved_takes_along_what_lies_over_it(script):
    """Pictures behind the camera whose offsets are keyed, boxes, the list, skeletons; and keypoints without footage begin there."""
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    scene.render.fps, settings.timing = 30, "REAL"
    bpy.ops.lgd.detect()
    bpy.ops.lgd.fit()
    bpy.ops.lgd.pick_box(x=10, y=10, w=400, h=600, first=3)
    camera = scene.camera
    path = "background_images[0].image_user.frame_offset"
    before = keyframes.find_curve(camera.data, path)
    pictures = [frame + before.evaluate(frame) for frame in range(1, 25)]
    assert len(before.keyframe_points) > 1
    settings.start = 1001
    assert settings.boxes[0].first == 1003 and skeletons(1001) and not skeletons(1) and listed_first() == 1001
    bpy.ops.lgd.clear_boxes()
    assert bpy.ops.lgd.fit() == {"FINISHED"} and len(bpy.data.images) == 1
    after = keyframes.find_curve(camera.data, path)
    assert [frame + 1000 + after.evaluate(frame + 1000) for frame in range(1, 25)] == pictures
    settings.path = ""
    bpy.ops.lgd.fit_keypoints()
    alone = next(o for o in bpy.data.objects if o.type == "ARMATURE" and not o.lgd.footage)
    assert alone.animation_data.action.frame_start == 1001


def test_people_of_another_range_are_not_taken_for_those_of_the_list(script):
    script.people = 2
    settings, people = bpy.context.scene.lgd, bpy.context.window_manager.lgd.people
    bpy.ops.lgd.detect()
    people[1].use = True
    settings.range, settings.first, settings.last = "CUSTOM", 4, 12
    with pytest.raises(RuntimeError, match="another range"):
        bpy.ops.lgd.fit_keypoints()
    assert bpy.ops.lgd.list_people() == {"FINISHED"}
    people[1].use = True
    assert bpy.ops.lgd.fit_keypoints() == {"FINISHED"}


def picture(user, frame: int, offset=None) -> int:
    """Which picture Blender shows on a frame, by its own arithmetic."""
    return min(max(frame - user.frame_start + 1, 1), user.frame_duration) + int(user.frame_offset if offset is None else offset)


def test_a_part_solved_again_leaves_the_pictures_before_frame_1(script):
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    settings.start = -10
    bpy.ops.lgd.fit()
    user = scene.camera.data.background_images[0].image_user
    assert [picture(user, frame) for frame in range(-10, 14)] == list(range(1, 25))
    settings.range, settings.first, settings.last = "CUSTOM", 5, 10
    bpy.ops.lgd.fit()
    assert [picture(user, frame) for frame in range(-10, 14)] == list(range(1, 25))


@pytest.mark.parametrize("place", ["FILE", "CLIP"])
def test_pictures_keep_step_when_the_pace_of_the_keys_is_changed(script, film, place):
    """As Shown, then Real Time, then As Shown again, by the camera of the first solve. A clip shows its pictures one a frame alone."""
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    scene.render.fps, settings.place = 50, place
    scene.active_clip = bpy.data.movieclips.load(film) if place == "CLIP" else None
    path = "background_images[0].image_user.frame_offset"
    for timing, pace in (("SHOWN", 1), ("REAL", 2), ("SHOWN", 1)):
        settings.timing = timing
        assert bpy.ops.lgd.fit() == {"FINISHED"}
        (background,) = scene.camera.data.background_images
        if background.source == "MOVIE_CLIP" and background.clip == scene.active_clip and pace == 1:
            continue
        user, curve = background.image_user, keyframes.find_curve(scene.camera.data, path)
        assert background.source == "IMAGE" and background.image is not None
        shown = [picture(user, frame, curve and curve.evaluate(frame)) for frame in range(1, 24 * pace - pace)]
        assert shown == [1 + (frame - 1) // pace for frame in range(1, 24 * pace - pace)]


def test_a_clip_that_is_called_as_the_image_behind_the_camera_does_not_stand_for_it(script, film):
    """Both have their file's name, and the clip may show it on other frames."""
    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    own = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(own)
    scene.camera = own
    background = own.data.background_images.new()
    background.source, background.image = "IMAGE", bpy.data.images.load(film)
    background.image_user.frame_start, background.image_user.frame_duration = 11, 24
    assert bpy.data.movieclips.load(film).name == background.image.name
    settings.place, settings.camera = "CAMERA", "NEW"
    assert bpy.ops.lgd.fit() == {"FINISHED"}
    (camera,) = [o for o in bpy.data.objects if o.type == "CAMERA" and o != own]
    (background,) = camera.data.background_images
    assert background.source == "IMAGE" and [picture(background.image_user, frame) for frame in range(11, 35)] == list(range(1, 25))


def listed(script, path):
    path.write_text("{}")
    script.people = 2
    bpy.context.scene.lgd.keypoints = str(path)
    bpy.ops.lgd.list_people()
    people = bpy.context.window_manager.lgd.people
    people[0].use, people[1].use = False, True
    return people


def test_people_of_another_scenes_keypoints_are_not_taken_for_those_of_the_list(script, tmp_path):
    bpy.context.scene.lgd.path = ""
    other = bpy.data.scenes.new("other")
    other.lgd.keypoints = str(tmp_path / "theirs.json")
    (tmp_path / "theirs.json").write_text("{}")
    listed(script, tmp_path / "ours.json")
    bpy.context.window.scene = other
    with pytest.raises(RuntimeError, match="other keypoints"):
        bpy.ops.lgd.fit_keypoints()


def test_people_of_keypoints_that_were_undone_are_not_taken_for_those_of_the_list(script, tmp_path):
    (tmp_path / "before.json").write_text("{}")
    bpy.context.scene.lgd.keypoints = str(tmp_path / "before.json")
    bpy.ops.ed.undo_push(message="before")
    listed(script, tmp_path / "after.json")
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert bpy.context.scene.lgd.keypoints.endswith("before.json")
    with pytest.raises(RuntimeError, match="other keypoints"):
        bpy.ops.lgd.fit_keypoints()


def test_who_alone_is_seen_in_a_range_is_not_who_is_most_seen_in_another(script, monkeypatch):
    import scripted

    monkeypatch.setattr(scripted, "PEOPLE", [scripted.PEOPLE[0], scripted.PEOPLE[1] | {"seen": 0}])
    script.people = 2
    settings = bpy.context.scene.lgd
    settings.range, settings.first, settings.last = "CUSTOM", 4, 12
    bpy.ops.lgd.detect()
    assert len(bpy.context.window_manager.lgd.people) == 1
    settings.last = 20
    with pytest.raises(RuntimeError, match="another range"):
        bpy.ops.lgd.fit_keypoints()


@pytest.mark.parametrize("what", ("undone", "other scene", "clip", "during the job"))
def test_list_and_skeletons_lie_where_the_file_does(script, film, what):
    from lgd_blender_addon.operators import pump
    from lgd_blender_addon.operators.request import plan_detect

    settings, first = bpy.context.scene.lgd, 1
    if what == "clip":
        settings.place, settings.clip = "CLIP", bpy.data.movieclips.load(film).name
    script.hold = what == "during the job"
    run = pump.start(plan_detect(bpy.context))
    if what == "during the job":
        settings.start = first = 1001
        script.hold = False
    pump.finish(run)
    if what == "undone":
        bpy.ops.ed.undo_push(message="before")
        bpy.context.scene.lgd.start = 1001
        bpy.ops.ed.undo_push(message="after")
        bpy.ops.ed.undo()
    elif what == "other scene":
        bpy.data.scenes.new("other").lgd.start = 1001
    elif what == "clip":
        settings.place = "FILE"
        settings.start = 1001
        settings.place = "CLIP"
    assert skeletons(first) and not skeletons(1002 - first) and listed_first() == first


@pytest.mark.parametrize("timing", ("SHOWN", "REAL"))
def test_what_a_solve_put_behind_the_camera_is_read_back(script, timing):
    """On whatever frame one stands, and no picture that the movie has not."""
    from lgd_blender_addon.scene import footage

    scene, settings = bpy.context.scene, bpy.context.scene.lgd
    scene.render.fps, settings.timing, settings.start = 50, timing, 11
    bpy.ops.lgd.fit()
    for frame in (1, 40):
        scene.frame_set(frame)
        found = footage.from_camera(scene)
        seen = found.table[11 - found.start :]
        assert found.frames == (0, 24)
        assert seen[:20].tolist() == [k // (2 if timing == "REAL" else 1) for k in range(20)]
