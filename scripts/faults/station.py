"""Files that are whole or not there, and the question who may ask the server."""

from __future__ import annotations

from scripts.faults.fault import Fault

_THROTTLE = "tests/edge_runtime/serve/test_throttle.py::"
_DIRECTORIES = "tests/train/test_folders.py::"
_FILES = "tests/edge_runtime/test_files.py::"

FAULTS = (
    # --- files
    Fault(
        "atomic: a full disk keeps the old file",
        "edge_runtime/files.py",
        "                file.write(data)\n",
        "                path.write_bytes(data[:1])\n                file.write(data)\n",
        (_FILES + "test_full_disk_keeps_the_old_file", _FILES + "test_interrupt_keeps_the_old_file"),
    ),
    Fault(
        "atomic: a folder appears whole or not at all",
        "train/folders.py",
        "            shutil.rmtree(staging, ignore_errors=True)\n            raise\n",
        "            _moved(staging, target) or _swap(staging, target)\n            raise\n",
        (_DIRECTORIES + "test_an_exception_leaves_the_old_folder_only",),
    ),
    Fault(
        "atomic: a folder of somebody else's stays",
        "train/folders.py",
        "if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():",
        "if target.is_dir() and not marker:",
        (_DIRECTORIES + "test_foreign_folder_is_refused",),
    ),
    Fault(
        "private files: the umask decides",
        "edge_runtime/files.py",
        "                keep_mode(path, name)\n",
        "                name.chmod(0o644)\n",
        ("tests/edge_runtime/test_files.py::test_the_umask_decides_who_may_read",),
    ),
    # --- the server
    Fault(
        "serve: requests from other sites are refused",
        "edge_runtime/serve/access.py",
        "if origin is not None and origin != self._origin and _netloc(origin) != host:",
        "if origin is None and not host:",
        (_THROTTLE + "test_on_loopback_the_own_page_only",),
    ),
    Fault(
        "serve: another name for this address is refused",
        "edge_runtime/serve/access.py",
        "if self._token is None and not is_loopback(_host_name(host)):",
        "if self._token is None and not host:",
        (_THROTTLE + "test_on_loopback_the_own_page_only",),
    ),
    Fault(
        "serve: the token is asked for",
        "edge_runtime/serve/access.py",
        "if self._token is not None and hmac.compare_digest(token, self._token):",
        "if self._token is not None and hmac.compare_digest(token[:3], self._token[:3]):",
        (_THROTTLE + "test_elsewhere_the_right_token_only",),
    ),
    Fault(
        "serve: guesses of the token have to wait",
        "edge_runtime/serve/access.py",
        "            self._throttle.wrong(address)\n",
        "",
        (_THROTTLE + "test_guesses_have_to_wait",),
    ),
)
