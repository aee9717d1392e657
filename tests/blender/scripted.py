# SPDX-License-Identifier: GPL-3.0-or-later
"""A session whose worker answers at once with messages written here."""

import numpy as np
from models import write_motion

from lgd_blender_addon.worker.job import Job

PEOPLE = [
    {"person": 0, "id": 3, "first": 0, "last": 23, "seen": 24, "confidence": 0.9},
    {"person": 1, "id": 1, "first": 2, "last": 20, "seen": 15, "confidence": 0.6},
]


class Script:
    """A session whose worker answers at once; `hold` keeps it from ending."""

    def __init__(self, folder, body, people=1, fail=None):
        self.folder, self.body, self.people, self.fail = folder, body, people, fail
        self.jobs, self.asked, self.hold, self.worker_pid, self.frames = [], [], False, 1, 24

    def configure(self, *args):
        pass

    def release(self):
        self.worker_pid = None

    shutdown = release

    def start(self, kind, request, on_event=None):
        job = Job(kind, request, self.folder, on_event)
        job.asked(len(self.asked) + 1)
        self.asked.append((kind, request))
        self.jobs.append(job)
        return job

    @property
    def busy(self):
        return self.jobs[0] if self.jobs else None

    def cancel(self, job):
        job.cancel()
        self.jobs.remove(job)

    def pump(self):
        if not self.jobs:
            return []
        job = self.jobs[0]
        self._tell(job, {"type": "progress", "stage": job.kind, "done": 5, "total": 24})
        if job.request.get("source"):
            people = [[[10.0, 20.0, 0.9]] * 17] * self.people
            self._tell(
                job,
                {
                    "type": "keypoints",
                    "frame": 0,
                    "people": people,
                    "layout": "coco17",
                    "image_size": [1280, 720],
                },
            )
        if self.hold or not self.jobs:
            return []
        self.jobs.pop(0)
        if self.fail and job.kind == "fit":
            self._tell(
                job,
                {
                    "type": "error",
                    "code": self.fail.code,
                    "text": self.fail.text,
                    "hint": self.fail.hint,
                    "action": self.fail.action,
                },
            )
        else:
            self._tell(job, {"type": "result", "value": getattr(self, job.kind)(job.request)})
        return []

    def _tell(self, job, event):
        job.apply(event)
        if job.on_event:
            job.on_event(job, event)

    def describe_body(self, request):
        file = self.folder / "body.npz"
        body = self.body
        data = {
            k: getattr(body, k)
            for k in (
                "v_template",
                "shapedirs",
                "weights",
                "faces",
                "J_template",
                "J_shapedirs",
                "gender",
                "id",
            )
        }
        np.savez(file, **data, **({"posedirs": body.posedirs} if body.posedirs is not None else {}))
        return {"file": str(file), "id": body.id, "gender": body.gender}

    def detect(self, request):
        file = self.folder / "keypoints.npz"
        a, b = request["source"]["frames"]
        ids = np.array(sorted(p["id"] for p in PEOPLE[: self.people]))  # a file has another order than the list
        np.savez(
            file, keypoints=np.zeros((self.people, b - a, 17, 2)) + ids[:, None, None, None],
            confidence=np.ones((self.people, b - a, 17)), layout="coco17", image_size=np.array([1280, 720]), fps=25.0,
            person_ids=ids,
        )  # fmt: skip
        return {
            "keypoints": str(file),
            "people": PEOPLE[: self.people],
            "layout": "coco17",
            "frames": b - a,
            "fps": 25.0,
            "image_size": [1280, 720],
        }

    def read_keypoints(self, request):
        return self.detect({"source": {"frames": request.get("frames", (0, 24))}})

    def fit(self, request):
        a, b = request["source"]["frames"] if "source" in request else request.get("frames", (0, 24))
        wanted = request["person"]
        people = range(self.people) if wanted == "all" else [wanted] if isinstance(wanted, int) else wanted
        told = request.get("betas") or []
        motions, traces = [], []
        for n in people:
            own = told if told and isinstance(told[0], float) else told[n] if n < len(told) else None
            changes = {} if own is None else {"betas": np.array(own)}
            motions.append(
                str(
                    write_motion(
                        self.folder / f"motion{len(self.asked)}_{n}.npz",
                        self.body,
                        b - a,
                        seed=len(self.asked) * 10 + n,
                        person_id=n,
                        **changes,
                    )
                )
            )
            steps = np.load(motions[-1])
            traces.append(str(self.folder / f"trace{len(self.asked)}_{n}.npz"))
            np.savez(
                traces[-1], poses=np.stack([steps["poses"] * k / 3 for k in range(4)]), trans=np.stack([steps["trans"]] * 4),
                betas=np.zeros((4, b - a, 10)), reprojection_px=np.linspace(40, 4, 4)[:, None] * np.ones((4, b - a)), frame_times=np.arange(b - a) / 25,
            )  # fmt: skip
        return {
            "motions": motions, "traces": traces, "keypoints": None, "people": PEOPLE[: self.people], "seconds": {"fit": 1.0},
            "figures": [{"person": n, "reprojection_px": 2.0} for n in people],
        }  # fmt: skip
