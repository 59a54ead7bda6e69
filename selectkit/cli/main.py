"""The `selectkit` command."""

import os
import sys
from typing import Annotated

import typer

from selectkit import __version__
from selectkit.cli import (
    bench,
    calibrate,
    compare,
    config,
    doctor,
    evaluate,
    extract,
    fit,
    inspect,
    plan,
    quickstart,
    report,
    split,
    verify,
)
from selectkit.errors import SelectkitError
from selectkit.threads import wait_passively

app = typer.Typer(
    name="selectkit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    quickstart, extract, split, plan, fit, calibrate, compare, evaluate, report, inspect, verify,
    doctor,
):  # fmt: skip
    app.command(module.__name__.rpartition(".")[2])(module.command)
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"selectkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Trust this prediction, or hand it on? Cache features once, fit in seconds, certify."""


def main() -> None:
    """Run the command line; a mistake of the user is one line and exit code 2.

    Exit codes: 0 done; 1 the answer is "not certified" or "verification failed"; 2 bad input;
    130 interrupted, the same command goes on. Only a bug shows a traceback.
    """
    wait_passively()
    try:
        app()
    except SelectkitError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, 130)
    except SystemExit as ended:  # typer has turned Ctrl-C into an exit without a word
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            _fail(_INTERRUPTED, 130)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'input or output'}", 2)


_INTERRUPTED = "interrupted; run the same command again to go on"


def _fail(message: str, code: int) -> None:
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")
    sys.exit(code)
