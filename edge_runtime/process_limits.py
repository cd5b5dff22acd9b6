"""Limits for a child process that reads files of unknown origin."""

from __future__ import annotations

MEMORY_BYTES = 4 << 30
"""Bytes of address space; interpreters and decoders reserve far more than they use."""


def limit_process(*, memory_bytes: int = MEMORY_BYTES, cpu_seconds: int | None = None) -> None:
    """Limit this process from now on: no core dump, no file writes, limited address space and processor time.

    A limit that is lower already stays. On Windows this does nothing; only the parent's time-out protects there.
    """
    try:
        import resource
    except ImportError:
        return
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_AS: memory_bytes}
    if cpu_seconds is not None:
        wanted[resource.RLIMIT_CPU] = cpu_seconds
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
