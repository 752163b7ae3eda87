"""Place of a database file: the folder, and the files beside the database, as far as other users matter.

One idea: the owner of a folder, or of a file that is opened by its name, can replace its content. So folder,
links and files have to belong to the collector's user or root, and the files are readable by their owner
alone unless the user says otherwise. A folder such as ``/tmp``, in which all users may create files and only
the owner may delete them, is good enough: a file that another user has created there is rejected.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ztrace.errors import DatabaseError
from ztrace.process.owners import is_trusted, name_user
from ztrace_collector.storing.faults import OTHER_FILE

#: Modes of the database and of SQLite's files beside it: for the owner, and with ``--group-readable``.
OWN_MODE, GROUP_MODE = 0o600, 0o640
#: SQLite's files beside a database, which SQLite creates with the mode of the database.
_BESIDE = ("-wal", "-shm", "-journal")


def find_place(path: Path) -> Path:
    """Return the path of a database without links, once nobody else can put another file in its place.

    Raises:
        DatabaseError: the place cannot be used.
    """
    path = path.absolute()
    try:
        for link in (path, *path.parents):
            if link.is_symlink() and not is_trusted(owner := link.lstat().st_uid):
                raise _belongs(link, owner, f"remove this link, or {OTHER_FILE}")
        path = path.resolve()  # Two names of one file have one lock.
        _check_place(path)
        _check_folder(path.parent)
        check_files(path)
    except OSError as error:
        raise DatabaseError(f"cannot use {path}: {error.strerror}", hint=OTHER_FILE) from error
    return path


def identify(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path, None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_files(path: Path) -> None:
    """Reject files of other users, and links, among those that SQLite opens by their names.

    Raises:
        DatabaseError: there is one; nothing has been changed.
    """
    for file in _files(path):
        status = file.lstat()
        if not is_trusted(status.st_uid):
            raise _belongs(file, status.st_uid, f"remove it, or {OTHER_FILE}")
        if not stat.S_ISREG(status.st_mode) or (file != path and status.st_nlink > 1):
            raise DatabaseError(f"{file} is a link, or not a file", hint=f"remove it, or {OTHER_FILE}")


def set_mode(path: Path, mode: int) -> None:
    """Create a database file if it is missing, and give it and the files beside it a mode.

    Raises:
        DatabaseError: the file cannot be created.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode))
    except OSError as error:
        raise DatabaseError(f"cannot create {path}: {error.strerror}", hint=OTHER_FILE) from error
    for file in _files(path):
        if stat.S_IMODE(file.stat().st_mode) != mode:
            try:
                file.chmod(mode)  # By name: closing a descriptor would release SQLite's locks on the file.
            except PermissionError:
                pass  # Root's file, which root wants as it is.


def check_lock(path: Path, descriptor: int) -> None:
    """Reject a lock file that another user could hold, and make it the owner's alone.

    Raises:
        DatabaseError: the file belongs to another user, or is not a plain file.
        OSError: its mode cannot be set.
    """
    status = os.fstat(descriptor)
    if not is_trusted(status.st_uid):
        raise _belongs(path, status.st_uid, f"remove it, or {OTHER_FILE}")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise DatabaseError(f"{path} is not a plain file", hint=f"remove it, or {OTHER_FILE}")
    if stat.S_IMODE(status.st_mode) != OWN_MODE:
        os.fchmod(descriptor, OWN_MODE)


def _files(path: Path) -> Iterator[Path]:
    """Yield the existing files of a database."""
    for file in (path, *(Path(f"{path}{suffix}") for suffix in _BESIDE)):
        if os.path.lexists(file):
            yield file


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder", hint=f"give a file in it, as in --db {path / 'ztrace.db'}")
    if path.exists() and not path.is_file():
        raise DatabaseError(f"{path} is not a file", hint=OTHER_FILE)
    if not path.parent.is_dir():
        exists = path.parent.exists()
        raise DatabaseError(
            f"{path.parent} is not a folder" if exists else f"there is no folder {path.parent}",
            hint=OTHER_FILE if exists else f"make it with 'mkdir -p {path.parent}', or {OTHER_FILE}",
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise DatabaseError(f"{path} is not writable", hint=f"make it writable, or {OTHER_FILE}")


def _check_folder(folder: Path) -> None:
    status = folder.stat()
    if not is_trusted(status.st_uid):
        raise _belongs(folder, status.st_uid, f"run as that user, or {OTHER_FILE} in a folder of your own")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise DatabaseError(
            f"every user can replace files in {folder}", hint=f"'chmod o-w {folder}', or {OTHER_FILE}"
        )


def _belongs(path: Path, user: int, hint: str) -> DatabaseError:
    return DatabaseError(f"{path} belongs to another user, {name_user(user)}", hint=hint)
