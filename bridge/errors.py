# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error that carries a sentence for the user, and the table of its codes."""

# code: (exit code of the command line, default sentence, default hint, operator that helps)
TABLE = {
    "bad_input": (2, "The input cannot be used.", "Check the file and the options.", ""),
    "model_file": (
        2,
        "The body model's file cannot be used.",
        "Choose another file.",
        "lgd.open_preferences",
    ),
    "disk": (2, "A file could not be written.", "Check the free space and the folder's permissions.", ""),
    "no_person": (3, "No person was found in the footage.", "Draw a box round the person.", ""),
    "setup_incomplete": (4, "The set-up is incomplete.", "Run the set-up.", "lgd.open_preferences"),
    "cancelled": (130, "Cancelled.", "", ""),
    "internal": (1, "Something failed unexpectedly.", "Please report it with the log file.", ""),
    "out_of_memory": (
        1,
        "The memory is full.",
        "Choose the CPU as the device, or a shorter range of frames.",
        "",
    ),
    "busy": (1, "The worker is busy with another job.", "Wait for it, or cancel it.", ""),
    "worker_died": (1, "The worker ended unexpectedly.", "Start the job again.", "lgd.restart_worker"),
    "worker_silent": (
        1,
        "The worker stopped answering and was ended.",
        "Start the job again.",
        "lgd.restart_worker",
    ),
    "protocol_mismatch": (
        1,
        "The worker is of another version than the add-on.",
        "Restart the worker; if that does not help, restart Blender.",
        "lgd.restart_worker",
    ),
    "bad_message": (
        1,
        "The worker and the add-on did not understand each other.",
        "Restart the worker.",
        "lgd.restart_worker",
    ),
}
CODES = {code: row[0] for code, row in TABLE.items()}


class LgdError(Exception):
    """A fault to show to the user: code, text (one sentence), hint (what to do) and action (an operator to offer).

    What is left empty comes from TABLE; an unknown code is kept and counts as `internal` for the exit code.
    """

    def __init__(self, code: str, text: str = "", hint: str = "", action: str = ""):
        _, default_text, default_hint, default_action = TABLE.get(code, TABLE["internal"])
        self.code = code
        self.text = text or default_text
        self.hint = hint or ("" if text else default_hint)
        self.action = action or default_action
        super().__init__(self.text)

    @property
    def exit_code(self) -> int:
        """The command line's exit code for this error."""
        return CODES.get(self.code, 1)

    def sentence(self) -> str:
        """Text and hint in one line."""
        return f"{self.text} {self.hint}".strip()
