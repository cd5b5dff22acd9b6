"""Every error that SonoEdge raises on purpose.

    SonoEdgeError
    ├── UsageError            wrong argument or combination of arguments
    ├── DataError             folder, label, split or CSV that cannot be used
    │   └── ImageError        one image that cannot be decoded
    │       └── FrameNeededError  a file of several frames, and none is named
    ├── BundleError           bundle.json, digests, files, schema
    │   ├── VerificationError the replay of golden.npz deviates
    │   └── TrustError        signature or policy
    ├── ModelError            model file that cannot be split, converted or run
    ├── MissingExtraError     an optional package is not installed
    ├── AccuracyError         no quantized candidate keeps the accuracy within the budget
    └── LimitError            no artifact is within the limits on time, size and memory

The command line prints ``error: <message>`` and exits with ``exit_code``; it never shows a traceback for these.
`REFUSED_EXIT_CODE` is not an error: every image was answered, some with ``refused``.
"""

from __future__ import annotations

from sonoedge.edge_runtime import __version__

REFUSED_EXIT_CODE = 11
"""Exit code of ``predict``, ``explain`` and ``stream`` if an image was refused and none was unreadable."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra; from a checkout or a wheel, because no package index has SonoEdge."""
    wheel = f"sonoedge-{__version__}-py3-none-any.whl"
    return f'pip install ".[{extra}]" in the checkout, or pip install "{wheel}[{extra}]"'


class SonoEdgeError(Exception):
    """Base of all expected errors. ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(SonoEdgeError):
    """An argument, or a combination of arguments, that makes no sense."""

    exit_code = 2


class DataError(SonoEdgeError):
    """Images, labels, groups or a split that cannot be used."""

    exit_code = 3


class ImageError(DataError):
    """One image that cannot be decoded; the others of a batch are still answered."""


class FrameNeededError(ImageError):
    """A file of several frames, and none is named; ``frames`` is how many the file holds."""

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class BundleError(SonoEdgeError):
    """A bundle that is damaged, incomplete, or of an unknown schema."""

    exit_code = 4


class VerificationError(BundleError):
    """An artifact does not reproduce the results stored in golden.npz."""

    exit_code = 5


class TrustError(BundleError):
    """A sound bundle that this device must not use: unsigned, signed by somebody else, or below its policy."""

    exit_code = 9


class ModelError(SonoEdgeError):
    """A model that cannot be read, split, converted or run."""

    exit_code = 6


class MissingExtraError(SonoEdgeError):
    """An optional package is missing.

    Args:
        package: the module that could not be imported.
        extra: the extra of the ``sonoedge`` distribution that installs it.
        advice: what to do if no extra helps; replaces the install command in the message.
    """

    exit_code = 7

    def __init__(self, package: str, extra: str, advice: str = "") -> None:
        super().__init__(f"{package} is not installed. {advice or f'Install it with: {how_to_install(extra)}'}")
        self.package = package
        self.extra = extra


class AccuracyError(SonoEdgeError):
    """No quantized candidate keeps accuracy, AUC and decisions within the budget."""

    exit_code = 8


class LimitError(SonoEdgeError):
    """No exported artifact is within the limits on time, size and memory."""

    exit_code = 12


def few(items: list[str] | tuple[str, ...], limit: int = 5) -> str:
    """The first ``limit`` items for a message, and how many more there are."""
    more = f", and {len(items) - limit} more." if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
