"""What goes wrong for a reason that a person can act on: one line, exit status 1. All else is a fault of the code."""


class LakeError(Exception):
    """A wish that cannot be met, or a state that a person has to look at. The text says what to do."""
