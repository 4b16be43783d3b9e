"""The `medaug` command: one line a subcommand, in the order of the pipeline."""

import errno
import gc
import io
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Never

import typer

from medaug_cli import __version__
from medaug_cli.commands import console
from medaug_cli.commands.boxes import boxes
from medaug_cli.commands.detect import detect
from medaug_cli.commands.doctor import doctor
from medaug_cli.commands.evaluate import evaluate
from medaug_cli.commands.export import export
from medaug_cli.commands.filter import filter
from medaug_cli.commands.groups import Groups, InGroups
from medaug_cli.commands.plugins import app as plugins
from medaug_cli.commands.predict import predict
from medaug_cli.commands.preprocess import preprocess
from medaug_cli.commands.store import app as store
from medaug_cli.commands.streams import flush_answer, open_standard_streams
from medaug_cli.commands.study import study
from medaug_cli.commands.synthesize import synthesize
from medaug_cli.commands.train_gan import train_gan
from medaug_cli.commands.train_network import train, train_classifier, train_detector, train_segmenter
from medaug_cli.commands.tsne import tsne
from medaug_cli.commands.turing import app as turing
from medaug_cli.errors import Interrupted, MedaugError
from medaug_cli.trouble import summary, written_report

UNWRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG}

GROUPS: Groups = {
    "Pipeline": {
        "preprocess": preprocess,
        "train-gan": train_gan,
        "synthesize": synthesize,
        "filter": filter,
        "train-detector": train_detector,
        "train-classifier": train_classifier,
        "train-segmenter": train_segmenter,
        "train": train,
        "evaluate": evaluate,
        "study": study,
        "predict": predict,
    },
    "Look and judge": {"tsne": tsne, "turing": turing},
    "Files": {"boxes": boxes, "detect": detect, "export": export, "store": store},
    "Machine": {"doctor": doctor, "plugins": plugins},
}


class Medaug(InGroups):
    """The command itself."""

    groups = GROUPS


app = typer.Typer(
    cls=Medaug,
    name="medaug",
    help="Turn a small annotated set of medical images into a larger one with GANs, and measure whether that helped.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"medaug {__version__}")
        raise typer.Exit


@app.callback()
def _medaug(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an error becomes one line and an exit code."""
    gc.set_threshold(10_000, 10, 10)  # a tenth of the time of imports went into looking for garbage in what stays
    open_standard_streams()
    _on_signals(_interrupt)
    for stream in (sys.stdout, sys.stderr):  # a terminal may lack a letter, and a file's name may be no text at all
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    _signals.clear()
    try:
        _answered()
    except (Interrupted, Exception) as error:
        _on_signals(signal.SIG_DFL)  # a second one ends it at once, rather than with a traceback of its exit
        _end(error)


def _on_signals(handler: Callable[[int, object], Never] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _end(error: BaseException) -> Never:
    """Say in a line what went wrong, and exit."""
    if _signals or isinstance(error, Interrupted):  # torch makes an error of its own of it while it writes
        _stop(
            "interrupted; published results are unchanged; --resume (of a study the same command) continues long work",
            Interrupted.exit_code,
        )
    if isinstance(error, MedaugError):
        _stop(str(error), error.exit_code)
    if isinstance(error, OSError):
        if error.errno is None:
            _report(error)
        verb = "written" if error.errno in UNWRITABLE else "read or written"
        place = error.filename2 or error.filename or "a file"
        _stop(f"{place} cannot be {verb} ({error.strerror or error}); existing results are unchanged", 1)
    _report(error)


def _answered() -> None:
    """Run the command that was asked for, and print all that it answers."""
    try:
        app()
    except SystemExit:
        flush_answer()
        raise


_signals: list[int] = []  # that asked the command to stop


def _interrupt(number: int, frame: object) -> Never:
    _signals.append(number)
    raise Interrupted


def _report(error: BaseException) -> Never:
    console.say(f"medaug: {summary(error)}".replace("\n", " "))
    _stop(written_report(error), 1)


def _stop(sentence: str, code: int) -> Never:
    console.say(f"medaug: {sentence}".replace("\n", " "))
    sys.exit(code)
