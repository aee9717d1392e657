# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error that carries a sentence for the user."""


class LgdError(Exception):
    """A fault to show to the user: code, text (one sentence), hint (what to do) and action (an operator to offer)."""

    def __init__(self, code: str, text: str, hint: str = "", action: str = ""):
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint
        self.action = action
