"""`selectkit doctor`."""

import typer

from selectkit.cli.options import Json


def command(json: Json = False) -> None:
    """Check the installation: torch, torchvision, timm, transformers, device.

    Exit code 1 means that something must be mended; the line says how.

    Examples:
      selectkit doctor
    """
    from selectkit.cli.output import print_json, say
    from selectkit.extract import diagnose

    checks = diagnose()
    healthy = all(check.ok for check in checks)
    if json:
        print_json({"ok": healthy, "checks": [check.to_dict() for check in checks]})
    else:
        for check in checks:
            say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
            if not check.ok:
                say(f"      mend it: {check.fix}")
    raise typer.Exit(0 if healthy else 1)
