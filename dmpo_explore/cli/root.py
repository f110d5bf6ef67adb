"""The command group `dmpo-explore`: errors, warnings, and the arguments that several commands share.

stdout has the result (with ``--json`` only JSON), stderr progress, warnings and errors. Exit status: 0 done,
1 failed (one line on stderr), 2 wrong usage, 130 stopped by Ctrl-C. A command imports what it needs when it runs, so
that help, ``runs``, ``policies`` and ``evaluate`` are quick and load no torch.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..utils.files import cache_dir, full_disk_cause
from ..utils.texts import one_line
from .options import TARGET_PANEL
from .output import say, warnings_said

EXPECTED = (ValueError, OSError, FloatingPointError, ImportError, RuntimeError, MemoryError)
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "can't start new thread")  # of torch and the system
LONGEST_ERROR = 4000  # characters; the names of all runs may stand in it
ORDER = (
    "fetch", "data", "probe", "train", "record", "evaluate", "predict", "publish", "export", "push", "search",
    "check", "policies", "runs", "app", "doctor",
)  # fmt: skip


class _Group(TyperGroup):
    """Turns the library's errors and warnings into one line each; --debug shows their tracebacks."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a newcomer uses them, then those of plug-ins."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings_said():
                return super().invoke(ctx)
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:  # files are written whole or not at all
            say("stopped; no file is half-written. Repeat the command to start again")
            raise typer.Exit(130) from None
        except Exception as error:
            full = full_disk_cause(error)  # a database has an error type of its own
            if ctx.params.get("debug") or not (full or isinstance(error, EXPECTED)):
                raise
            # what hides a full disk, such as optuna's "Should not reach.", is not shown, nor is a statement in SQL
            text = one_line(error, LONGEST_ERROR) if full in (None, error) else str(full).partition("\n")[0]
            say(f"error: {text or type(error).__name__}{_remedy(error)}")
            raise typer.Exit(1) from None


def _remedy(error: Exception) -> str:
    """What helps against an error of the system that does not state it; empty if nothing is known."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        with suppress(OSError):  # no cache, as there is no home
            file, cache = Path(str(error.filename)), cache_dir()
            if file == cache or file in cache.parents or cache in file.parents:
                return "; downloads can lie elsewhere: set DMPO_EXPLORE_CACHE to a folder of yours"
    if "failed to map segment" in str(error):  # a library that does not fit
        return "; too little memory may be used: raise its limit (ulimit -v)"
    if (isinstance(error, MemoryError) and not str(error)) or any(words in str(error) for words in NO_MEMORY):
        return "; the memory is used up: use smaller batches, end other programs, or raise its limit (ulimit -v)"
    return ""


app = typer.Typer(
    cls=_Group, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto (an NVIDIA GPU if there is one, else cpu), cpu, cuda, mps or xpu.")]
DataPlace = Annotated[
    str | None, typer.Argument(metavar="PATH", help="A folder or table of images, or the name of a known data set.")
]
PlannedConfig = Annotated[
    str | None,
    typer.Option(metavar="FILE.json|RUN", help="Config of the planned training; the options below change it."),
]
ProgressPath = Annotated[
    Path | None,
    typer.Option("--progress", metavar="FILE.json", help="Write the progress to this file while the command runs."),
]
RUN = "Name of a run (see `dmpo-explore runs`), its folder, or hf://OWNER/NAME[@REVISION]."
RunName = Annotated[str, typer.Argument(metavar="RUN", help=RUN)]
Flops = Annotated[
    list[float] | None,
    typer.Option(
        help="Compute budget on calibration as a fraction of the plain backbone's FLOPs, e.g. 0.3. May be repeated.",
        rich_help_panel=TARGET_PANEL,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dmpo-explore {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="DMPO_EXPLORE_DEBUG", help="Show the traceback of an error.")
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.py", help="Load this plug-in first; may be repeated, and stand after a command."),
    ] = None,
) -> None:
    """Early-exit vision models by DMPO: train, record the scores of every exit once, evaluate any exit policy.

    First steps: `dmpo-explore app` opens the app on the bundled runs. Or train a run of your own: `fetch`, `train`,
    `record`, `evaluate`.
    """
    del version, debug, plugin  # `_Group` reads debug, `entry` the plug-ins
