"""The command line. It starts fast: a command imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

BROKEN_PIPE = 141
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the exit code: 0 done, 1 a run or validation failed, 2 bad input."""
    try:
        from archsim.cli.app import app

        app(args=list(sys.argv[1:] if argv is None else argv), prog_name="archsim")
        code: object = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    if code == BROKEN_PIPE:
        # Nobody reads on. What is left in the buffer must not be tried again when Python ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else int(code is not None)
