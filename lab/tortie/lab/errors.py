"""What the lab raises."""


class LabError(Exception):
    """A lab cannot do what was asked; the message names it, says why, and what to do where that is known."""
