"""Why a batch does not begin, or ends before its last file."""

from __future__ import annotations


class BatchError(ValueError):
    """What was asked for contradicts itself; the message is a sentence fit for the user."""


class BatchInputError(BatchError):
    """The inputs cannot be found."""


class BatchOutputError(BatchError):
    """The outputs cannot, or must not, be written where they were to go; or there is no room for more."""
