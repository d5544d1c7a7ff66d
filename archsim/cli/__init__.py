"""The command line. It starts fast: a command imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

BROKEN_PIPE = 141
INTERRUPTED = 130
FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the exit code: 0 done, 1 a run or validation failed, 2 bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter shows another in its place
            stream.reconfigure(errors="replace")
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
    except OSError as error:
        with contextlib.suppress(OSError):
            print(f"cannot write the answer: {error.strerror}", file=sys.stderr)
        code = FAILED
    if code in (BROKEN_PIPE, FAILED):
        # Nobody reads on. What is left in the buffer must not be tried again when Python ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else int(code is not None)
