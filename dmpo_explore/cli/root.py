"""``dmpo-explore …``: one command, one library call, one way to show it.

stdout carries the answer (with ``--json`` nothing but JSON), stderr progress and errors. Exit status: 0 done, 1 failed
(one line on stderr), 2 wrong usage, 130 stopped by Ctrl-C. A command imports what it needs when it runs, so that help,
``runs``, ``policies`` and ``evaluate`` are quick and load no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .options import TARGET_PANEL
from .output import say


class _Group(TyperGroup):
    """Turns the library's errors into one line; --debug shows where they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except (ValueError, OSError, FloatingPointError, ImportError, RuntimeError) as error:
            if ctx.params.get("debug"):
                raise
            say(f"error: {' '.join(str(error).split())}")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Group, no_args_is_help=True, rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")]
ProgressPath = Annotated[
    Path | None, typer.Option("--progress", metavar="FILE.json", help="Keep a file up to date with how far it is.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run (see `dmpo-explore runs`) or its folder.")]
Flops = Annotated[
    list[float] | None,
    typer.Option(
        help="Compute budget as a fraction of the plain backbone's, e.g. 0.3. May be repeated.",
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
        bool, typer.Option("--debug", envvar="DMPO_EXPLORE_DEBUG", help="Show a traceback when something fails.")
    ] = False,
) -> None:
    """Early-exit vision models by DMPO: train them, record them once, ask many times."""
    del version, debug  # the latter is read by _Group
