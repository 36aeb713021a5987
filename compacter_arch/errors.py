"""The one exception that the command line turns into one line."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend: the message names the file, the key and the remedy."""
