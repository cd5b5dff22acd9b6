"""Keras' weight files: where it keeps them, and whether the host that has them answers."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

DOWNLOAD_HOST = "https://storage.googleapis.com/"


def cache_folder() -> Path:
    """Where `keras.utils.get_file` keeps weight files."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def imagenet_reachable(timeout_s: float = 4.0) -> bool:
    """Whether the host of Keras' weight files answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(DOWNLOAD_HOST, method="HEAD"), timeout=timeout_s):
            return True
    except urllib.request.HTTPError:
        return True  # it answered; what it thinks of this address does not matter
    except (OSError, ValueError):
        return False
