"""Owners of files: the users whose files a process may rely on.

One idea: a file's mode says what other users can do with it now, and its owner can change both the mode and
the content. So a file is relied on only if it belongs to the process's own user, or to root, who can change
everything anyway. Root relies on no other user's files.
"""

import os
from collections.abc import Set

#: User that can change every file.
ROOT = 0


def trusted_users() -> Set[int]:
    """Return the ids of the users whose files the process may rely on."""
    return {ROOT, os.geteuid()}


def is_trusted(user: int) -> bool:
    """Return whether the process may rely on the files of a user."""
    return user in trusted_users()


def name_user(user: int) -> str:
    """Return the name of a user for a message, or the number if there is no name."""
    try:
        from pwd import getpwuid  # Needed for messages only.

        return getpwuid(user).pw_name
    except (ImportError, KeyError, OSError):
        return f"user {user}"
