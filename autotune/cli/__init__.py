"""The commands people type: one file a verb, imported when it is typed."""

from __future__ import annotations

import importlib
import os
import sys

import click

VERBS = {
    "init": "Copy a ready search space to start from.",
    "run": "Search a space to its budget, or go on with a run.",
    "validate": "Check a space file and say what it holds, without running it.",
    "pick": "Choose a configuration of a run under an SLO.",
    "report": "Write a run's HTML report again.",
    "profile": "Say where the time of a request goes, by operator.",
    "bench": "Measure one model as a run measures its trials.",
    "doctor": "Say what this machine and this installation can do.",
    "gc": "Shrink a run's artifact store.",
    "schema": "Print the JSON schema of the space file.",
}


class _Verbs(click.Group):
    """Loads a verb's module only when it is wanted, so that the help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"autotune.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="autotune")
def group() -> None:
    """Find the Pareto front of accuracy against latency and cost of a trained network."""


def main() -> None:
    """Run the command line; the exit code says how it ended.

    0: done. 2: something the user can mend. 3: nothing is picked. 130: interrupted.
    """
    from autotune.errors import MachineError, NothingFits, UserError

    try:
        sys.exit(group.main(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from autotune.cli.terminal import complain

        place = str(error.filename or "")
        complain(MachineError(error.strerror or str(error), place=place))
        sys.exit(MachineError.exit_code)
    except (UserError, NothingFits) as error:
        from autotune.cli.terminal import complain

        complain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
