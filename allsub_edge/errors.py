"""Errors a person can act on: a stable code for programs, a sentence for people.

Every message says what is wrong, with which input, and what to do next. The command line prints
them in one line and never shows a traceback for them.
"""

from __future__ import annotations


class AllsubError(Exception):
    """Base of every expected error.

    Attributes:
        code: short stable identifier in snake_case, for programs (``error.code`` in records).
        message: one line for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class FieldError(AllsubError):
    """One input field cannot be read; the other inputs go on.

    Codes: ``missing``, ``unreadable``, ``empty``, ``not_an_image``, ``truncated``, ``too_large``,
    ``too_small``, ``grey``, ``unsupported``, ``no_fields``, ``no_memory`` (it may be
    sound: try again). A camera has more (docs/camera.md); ``worker_died`` comes from
    ``infer --workers``.
    """


class ModelFileError(AllsubError):
    """A model file is absent, damaged, edited, of an unknown schema, or not one of ours."""


class DataError(AllsubError):
    """A data set, split or run folder is not usable as it is."""


class UsageError(AllsubError):
    """A wrong option or a missing optional package; the command line exits with 2."""
