"""`selectkit calibrate`."""

from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Run, StoreOverride, flag, settings
from selectkit.config import CalibrateConfig


def command(
    context: typer.Context,
    run: Run,
    target: Annotated[str | None, flag(CalibrateConfig, "target")] = None,
    policy: Annotated[str | None, flag(CalibrateConfig, "policy")] = None,
    cost: Annotated[str | None, flag(CalibrateConfig, "cost")] = None,
    per_group: Annotated[str | None, flag(CalibrateConfig, "per_group")] = None,
    delta: Annotated[float | None, flag(CalibrateConfig, "delta")] = None,
    calibrator: Annotated[str | None, flag(CalibrateConfig, "calibrator")] = None,
    score: Annotated[str | None, flag(CalibrateConfig, "score")] = None,
    xi: Annotated[float | None, flag(CalibrateConfig, "xi")] = None,
    variant: Annotated[str | None, flag(CalibrateConfig, "variant")] = None,
    sets: Annotated[str | None, flag(CalibrateConfig, "sets")] = None,
    exits: Annotated[str | None, flag(CalibrateConfig, "exits")] = None,
    stages: Annotated[str | None, flag(CalibrateConfig, "stages")] = None,
    stage_costs: Annotated[str | None, flag(CalibrateConfig, "stage_costs")] = None,
    view_seconds: Annotated[str | None, flag(CalibrateConfig, "view_seconds")] = None,
    cost_unit: Annotated[str | None, flag(CalibrateConfig, "cost_unit")] = None,
    human_cost: Annotated[float | None, flag(CalibrateConfig, "human_cost")] = None,
    last_decides: Annotated[bool | None, flag(CalibrateConfig, "last_decides")] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fit the probability calibrator, then certify an exit policy on val_calib.

    Exit code 1 means INFEASIBLE: the promise cannot be made with these data.
    The run then keeps the feasible policy it has; without one, it defers
    everything.

    Examples:
      selectkit calibrate run --target fnr=0.02 --delta 0.1

      selectkit calibrate run --target error=0.01 --policy auto

      selectkit calibrate run --policy two_sided --target fnr=0.02,fpr=0.05

      selectkit calibrate run --cost miss=50,false_alarm=3,defer=1

      selectkit calibrate run --policy scrc --target error=0.05 --exits singletons

      selectkit calibrate small --policy cascade --stages large --target error=0.02
    """
    from selectkit.cli.output import print_json, progress_bar, say, warn
    from selectkit.pipeline import calibrate

    chosen = settings(context, CalibrateConfig, "calibrate", config)
    with progress_bar("policies", "tries", json or chosen.policy != "auto") as bar:
        task = bar.task_ids[0]

        def watch(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, rate=name)

        answer = calibrate(run, config=chosen, store=store, watch=watch)
    if json:
        print_json(answer.to_dict())
    else:
        say(*answer.lines())
        warn(answer.warnings)
    raise typer.Exit(0 if answer.feasible else 1)
