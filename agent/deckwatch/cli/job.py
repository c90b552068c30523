"""`deckwatch job`: run a command, such as that of a cron job, and measure it. Needs only the application library."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

from deckwatch.durations import seconds_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_KERNEL = 0x80  # SI_KERNEL: the terminal sends it to the command too
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # exit codes of a shell


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(needs_agent=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run a command and measure it; its exit code and signals are passed through",
        usage="deckwatch job run --name NAME [options] -- COMMAND [ARGUMENT ...]",
    )
    _add_names(run)
    run.add_argument(
        "--every", type=_seconds, metavar="DURATION", help="longest expected time between successful runs, such as 1d"
    )
    run.add_argument("words", nargs="+", metavar="COMMAND", help="the command and its arguments, after --")
    run.set_defaults(command=_run)
    forget = commands.add_parser("forget", help="end the alerts of a job that no longer exists")
    _add_names(forget)
    forget.set_defaults(command=_forget)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="name of the job")
    parser.add_argument("--service", help="name of the service (else $DECKWATCH_SERVICE, jobs)")
    parser.add_argument("--app-dir", metavar="DIR", help="folder that the agent reads (else $DECKWATCH_APP_DIR)")


def _seconds(text: str) -> float:
    seconds = seconds_in(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration, such as 30m, 12h or 1d")
    return seconds


def _run(options: argparse.Namespace) -> int:
    environ = dict(os.environ)
    _use_folder(options)
    from deckwatch import job

    ended_by = 0
    with job(options.name, every=options.every) as measured:
        try:
            status = _status(options.words, environ)
        except OSError as failure:
            reason = f"cannot run {options.words[0]}: {failure.strerror}"
            measured.fail(reason)
            print(f"deckwatch job: {reason}", file=sys.stderr)  # noqa: T201  this is the command line
            return _NOT_FOUND if isinstance(failure, FileNotFoundError) else _NOT_EXECUTABLE
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            ended_by = -code
            measured.fail(f"ended by {signal.Signals(ended_by).name}")
        elif code > 0:
            measured.fail(f"exit code {code}")
    if ended_by:
        _end_by(ended_by)
    return code


def _forget(options: argparse.Namespace) -> int:
    _use_folder(options)
    from deckwatch.sdk.jobs import forget

    forget(options.name)
    return 0


def _use_folder(options: argparse.Namespace) -> None:
    """Set the environment of the application library, before it is used."""
    if options.app_dir:
        os.environ["DECKWATCH_APP_DIR"] = options.app_dir
    if options.service:
        os.environ["DECKWATCH_SERVICE"] = options.service
    os.environ.setdefault("DECKWATCH_SERVICE", "jobs")
    if not os.environ.get("DECKWATCH_APP_DIR"):
        print(  # noqa: T201  this is the command line
            f"deckwatch job: the metrics of {options.name} are lost. Set --app-dir or DECKWATCH_APP_DIR.",
            file=sys.stderr,
        )


def _status(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command to its end and return its wait status. Raises OSError if it cannot be started.

    Signals are blocked from before the start, so that none is lost, and received one by one.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was inherited as ignored, the status would be lost
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, signal.SIGCHLD))
    child = os.posix_spawnp(
        words[0], list(words), environ, setsigmask=before, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
    )
    while True:
        received = signal.sigwaitinfo((*_FORWARDED, signal.SIGCHLD))
        if received.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        elif received.si_code != _FROM_KERNEL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, received.si_signo)


def _end_by(number: int) -> None:
    """End this process by the signal that ended the command, without a core file."""
    _, limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limit))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
