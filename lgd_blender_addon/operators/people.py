# SPDX-License-Identifier: GPL-3.0-or-later
"""The people of a keypoint file that another detector wrote, or that was detected before the file was opened again."""

import bpy

from ..scene import result
from .request import Plan, find_footage, keypoints_alone, keypoints_request, pictures_of
from .run import begin, grey, no_footage


def plan_people(context) -> Plan:
    """The plan of reading the keypoints that the settings name, in the range that would be solved. Raises LgdError."""
    found = None if keypoints_alone(context.scene.lgd) else find_footage(context)
    request = keypoints_request(context, found)  # as for a solve: the order of the people depends on the range
    if found is not None:
        request["footage"] = pictures_of(context, found)
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
