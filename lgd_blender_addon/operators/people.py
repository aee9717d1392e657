# SPDX-License-Identifier: GPL-3.0-or-later
"""The people of a keypoint file that another detector wrote, or that was detected before the file was opened again."""

from pathlib import Path

import bpy

from .._bridge import LgdError
from ..scene import result
from .request import Plan, _keypoint_frames, find_footage, image_rate, keypoints_alone
from .run import begin, grey, no_footage


def plan_people(context) -> Plan:
    """The plan of reading the keypoints that the settings name, in the range that would be solved. Raises LgdError."""
    settings = context.scene.lgd
    path = bpy.path.abspath(settings.keypoints)
    if not settings.keypoints or not Path(path).exists():
        raise LgdError("bad_input", "There are no keypoints.", "Detect first, or choose a file of keypoints.")
    found = None if keypoints_alone(settings) else find_footage(context)
    request = {"keypoints": path}
    if found is not None:  # as for a solve: the order of the people depends on the range
        request |= _keypoint_frames(settings, found) | {"fps": found.fps or image_rate(context, found)}
        request["image_size"] = [int(side) for side in found.size] if all(found.size) else None
    return Plan("List People", context.scene.session_uid, found, result.Options(), [("read_keypoints", request)], build=False)


class LGD_OT_list_people(bpy.types.Operator):
    """List the people of the keypoints, to tick those to solve, and draw their skeletons over the footage"""

    bl_idname = "lgd.list_people"
    bl_label = "List People"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        """Grey while a job runs, without a worker, keypoints or footage."""
        if grey(cls, context):
            return False
        settings = context.scene.lgd
        problem = "" if settings.keypoints else "Detect first, or choose a file of keypoints"
        if not problem and not keypoints_alone(settings):
            problem = no_footage(context)
        if problem:
            cls.poll_message_set(problem)
        return not problem

    def execute(self, context):
        """Start; the pump does the rest."""
        return begin(self, lambda: plan_people(context))


CLASSES = (LGD_OT_list_people,)
