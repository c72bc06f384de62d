"""The two ways a command ends badly, and the exit code of each."""


class BadInput(Exception):
    """What the user gave cannot be used; the message says what is wrong and what to do. Exit code 2."""


class Failure(Exception):
    """The input was good, but the work could not be done. Exit code 1."""
