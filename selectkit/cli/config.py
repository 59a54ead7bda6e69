"""`selectkit config init | check | show`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import Json

app = typer.Typer(help="Write, check or show configuration files.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="TOML file.")]


@app.command()
def init(file: File = Path("selectkit.toml")) -> None:
    """Write a configuration file with every setting at its default; never overwrites.

    Examples:
      selectkit config init selectkit.toml
    """
    from dataclasses import asdict

    from selectkit.artifact import write_bytes
    from selectkit.cli.output import say
    from selectkit.config import RunConfig, to_toml
    from selectkit.errors import ConfigError

    if file.exists():
        raise ConfigError(f"{file} exists already; choose another name or remove it.")
    write_bytes(file, to_toml(asdict(RunConfig())).encode())
    say(f"wrote {file}")


@app.command()
def check(file: File) -> None:
    """Check a configuration file; all mistakes are listed in one message.

    Examples:
      selectkit config check selectkit.toml
    """
    from selectkit.cli.output import say
    from selectkit.config import read_toml

    read_toml(file)
    say(f"{file} is a valid configuration")


@app.command()
def show(file: File, json: Json = False) -> None:
    """Show a configuration file with all defaults filled in.

    Examples:
      selectkit config show run/config.toml
    """
    from dataclasses import asdict

    from selectkit.cli.output import print_json, say
    from selectkit.config import read_toml, to_toml

    config = read_toml(file)
    if json:
        print_json(asdict(config))
    else:
        say(to_toml(asdict(config)).rstrip())
