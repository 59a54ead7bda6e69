"""`selectkit calibrate`."""

from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Run, StoreOverride, flag, settings
from selectkit.config import CalibrateConfig


def command(
    context: typer.Context,
    run: Run,
    target: Annotated[str | None, flag(CalibrateConfig, "target")] = None,
    delta: Annotated[float | None, flag(CalibrateConfig, "delta")] = None,
    calibrator: Annotated[str | None, flag(CalibrateConfig, "calibrator")] = None,
    score: Annotated[str | None, flag(CalibrateConfig, "score")] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fit the probability calibrator, then certify a threshold on val_calib.

    Exit code 1 means INFEASIBLE: the promise cannot be made with these data.
    The run then keeps the feasible policy it has; without one, it defers
    everything.

    Examples:
      selectkit calibrate run --target fnr=0.02 --delta 0.1

      selectkit calibrate run --target error=0.01

      selectkit calibrate run --target coverage=0.8 --calibrator auto
    """
    from selectkit.cli.output import print_json, say, warn
    from selectkit.pipeline import calibrate

    chosen = settings(context, CalibrateConfig, "calibrate", config)
    answer = calibrate(run, config=chosen, store=store)
    if json:
        print_json(answer.to_dict())
    else:
        say(*answer.lines())
        warn(answer.warnings)
    raise typer.Exit(0 if answer.feasible else 1)
