"""Reads files with checks, and writes files and folders atomically.

Imports neither TensorFlow nor Keras. Code found in a file is never run. Sizes
are checked before memory is allocated.
"""

import contextlib
import errno
import glob
import json
import math
import os
import pathlib
import shutil
import tempfile

import numpy as np

from tfmetainit.io.errors import InputError, reason

try:
    import fcntl
except ModuleNotFoundError:
    fcntl = None

MAX_JSON_BYTES = 16 * 2**20
# One float32 for each pixel of the largest image, and a header.
MAX_ARRAY_BYTES = 400_004_096


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path that becomes `path` when the block succeeds.

    The temporary file lies beside `path` and keeps its suffix. If the block
    raises, `path` is left as it was and the temporary file is removed.

    Raises:
        InputError: if `path` is a folder, or its folder is missing or not
            writable.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError(f"An output must be a file, but {path} is a folder.")
    if not path.parent.is_dir():
        raise InputError(
            f"The folder of an output must exist. Received: {path}, but there "
            f"is no folder {path.parent}"
        )
    suffix = "".join(path.suffixes[-2:])
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=suffix, dir=path.parent
        )
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}.") from error
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        # mkstemp makes files private; an output follows the user's umask.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # raised by a codec, not by the system
            raise
        if error.filename not in (None, temporary, str(path)):
            raise InputError(  # about another file that the block uses
                f"Cannot use {error.filename}: {os.strerror(error.errno)}."
            ) from error
        raise InputError(
            f"Cannot write {path}: {os.strerror(error.errno)}."
        ) from error
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)


def remove_leftovers(path):
    """Removes temporary files that killed calls of `atomic_path(path)` left.

    Call this only while no other process can be writing `path`.
    """
    path = pathlib.Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextlib.contextmanager
def atomic_folder(path):
    """Yields a temporary folder that becomes `path` when the block succeeds.

    An existing folder is kept until then and replaced as a whole; the caller
    checks that it may be replaced. If the block raises, nothing changes.

    Raises:
        InputError: if the folder cannot be written.
    """
    path = pathlib.Path(os.path.realpath(path))

    def make_temporary():
        return pathlib.Path(
            tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
        )

    staging = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = make_temporary()
        yield staging
        os.chmod(staging, 0o777 & ~_umask())
        if not path.exists():
            os.rename(staging, path)
            return
        old = make_temporary()
        try:
            os.rename(path, old)  # onto the empty folder
        except OSError:
            os.rmdir(old)
            raise
        try:
            os.rename(staging, path)
        except OSError:
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno is None:  # raised by a codec, not by the system
            raise
        raise InputError(
            f"Cannot write {path}: {os.strerror(error.errno)}."
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def files_below(folder) -> list[pathlib.Path]:
    """All files in a folder and its subfolders, sorted.

    Symbolic links are followed; no folder is read twice. Hidden files and
    folders are skipped: names with a leading dot, and __MACOSX.

    Raises:
        InputError: if a folder cannot be read.
    """

    def refuse(error):
        raise InputError(
            f"Cannot read {error.filename}: {error.strerror}."
        ) from error

    found, read = [], set()
    for parent, folders, names in os.walk(
        folder, onerror=refuse, followlinks=True
    ):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        real = os.path.realpath(parent)
        if real in read:
            folders.clear()
            continue
        read.add(real)
        paths = (pathlib.Path(parent, n) for n in names if not _is_hidden(n))
        found += [path for path in paths if path.is_file()]
    return sorted(found)


def _is_hidden(name):
    return name.startswith(".") or name == "__MACOSX"


def make_folder(path) -> pathlib.Path:
    """Makes a folder for outputs if it does not exist.

    Raises:
        InputError: if the folder cannot be made or is not writable.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            f"Cannot write to the folder {path}: {error.strerror}."
        ) from error
    return path


def check_space(folder, size: int) -> None:
    """Raises InputError unless the disk of a folder has `size` free bytes.

    Called before a library writes whose own error for a full disk is pages
    long.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"The disk of {folder} must have {size} free bytes for the next "
            f"output. Received: {free} free bytes"
        )


@contextlib.contextmanager
def lock(path, wait: bool = True):
    """Holds the lock file `path` against other processes of this machine.

    The lock is released when the block or the process ends, even if the
    process is killed. The file stays. Nothing is locked where the system
    (Windows) or the file system has no such locks.

    Args:
        path: the lock file; it is made if it is missing.
        wait: whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: if another process holds the lock and `wait` is False.
        OSError: if the file cannot be made.
    """
    if fcntl is None:
        yield
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
        yield


def check_size(path, max_bytes):
    """Raises InputError unless `path` is a file of at most `max_bytes`."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError(f"A file is needed, but {path} is a folder.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(
            f"A file of this kind may hold at most {max_bytes} bytes. "
            f"Received: {path} of {size} bytes"
        )


def write_json(path, value):
    """Writes `value` as indented JSON, atomically.

    NaN and infinite floats, which JSON lacks, become null.
    """
    content = json.dumps(_with_null(value), indent=2, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(content + "\n")


def _with_null(value):
    if isinstance(value, dict):
        return {key: _with_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_null(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check_apart(output, **inputs) -> None:
    """Raises InputError if an output is the same file as an input.

    Paths that are spelt in other ways are compared by what they lead to.

    Args:
        output: path of the output.
        **inputs: paths of the inputs by the names of their arguments; those
            that are None are ignored.
    """
    for name, path in inputs.items():
        if path is None:
            continue
        same = os.path.realpath(output) == os.path.realpath(path)
        with contextlib.suppress(OSError):  # one of them does not exist
            # Other names of one file, such as hard links.
            same = same or os.path.samefile(output, path)
        if same:
            raise InputError(
                f"An output must be another file than `{name}`. Received: "
                f"{output}"
            )


def read_json(path, max_bytes=MAX_JSON_BYTES):
    """Reads a JSON file of at most `max_bytes`.

    Raises:
        InputError: if the file is missing, too large, or not JSON.
    """
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(
                f"A JSON file may hold at most {max_bytes} bytes. "
                f"Received: {path} of {path.stat().st_size} bytes"
            )
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    # RecursionError: deeply nested brackets.
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a JSON file: {error}.") from error


def read_array(path) -> np.ndarray:
    """Reads a `.npy` file of at most 400 MB; its numbers must be finite.

    Returns:
        An integer or float array with the file's shape and dtype.

    Raises:
        InputError: if the file is missing, too large, damaged, or holds
            anything but finite numbers.
    """
    path = pathlib.Path(path)
    check_size(path, MAX_ARRAY_BYTES)
    try:
        # Memory-mapped: a false shape in the header allocates nothing.
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    # Damaged files make NumPy raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"{path} is not a .npy file of numbers: {reason(error)}."
        ) from error
    if array.dtype.kind not in "iuf":
        raise InputError(
            "An array must hold integers or floating-point numbers. Received: "
            f"{path} of dtype {array.dtype}"
        )
    return check_finite(array, path)


def check_finite(array, path) -> np.ndarray:
    """Raises InputError unless the numbers that a file holds are finite."""
    if not np.isfinite(array).all():
        raise InputError(
            f"{path} holds {np.count_nonzero(~np.isfinite(array))} numbers "
            "that are NaN or infinite."
        )
    return array


def suffix_of(path) -> str:
    """The suffix of a path in lower case; "" for one of digits only.

    Names such as IM.0001 or the numbers of DICOM's identifiers have none.
    """
    suffix = pathlib.Path(path).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix
