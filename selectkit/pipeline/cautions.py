"""What weakens a promise that is otherwise proven: groups, too few rows, earlier looks."""

from selectkit.cache import Features, FeatureStore
from selectkit.percent import confidence
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.split import evidence
from selectkit.policies import Targets
from selectkit.risk import labels_needed


def about_groups(images: int, groups: int, used: int | None = None) -> tuple[str, ...]:
    """Say when several images of val_calib are one piece of evidence.

    Args:
        images: Labelled images of val_calib.
        groups: Groups among them.
        used: Images that the promise rests on, where they are not one of each group.

    Returns:
        One line, or none.
    """
    if groups == images:
        return ()
    about = "" if used is None else f" ({used:,} for this target)"
    return (
        f"val_calib has {images:,} images of {groups:,} groups; images of one group are no "
        f"independent evidence, so one of each was used{about}: the promise is about a random "
        "image of a random group",
    )


def about_evidence(
    targets: Targets, delta: float, calib: Features, run: RunDirectory, store: FeatureStore
) -> tuple[str, ...]:
    """Say when val_test cannot verify a promise, and when the calibration rows were looked at.

    Args:
        targets: What is promised.
        delta: Probability with which it may fail.
        calib: The calibration rows.
        run: The run.
        store: Its store.

    Returns:
        One line for each caution.
    """
    lines = []
    for target in targets:
        needs = labels_needed(target.alpha, delta)
        who, n = evidence(store, "val_test", target.risk, run.head.document["positive"])
        if n < needs:
            lines.append(
                f"val_test has {n:,} {who}; to verify {target} on it at confidence "
                f"{confidence(delta)} takes at least {needs:,}: what it shows is only indicative"
            )
    before = sum(e["event"] == "calibrate" and e["split"] == calib.fingerprint
                 and e["feasible"] for e in run.events())  # fmt: skip
    if before:
        lines.append(
            f"{before} earlier {'policy' if before == 1 else 'policies'} of this run "
            f"{'was' if before == 1 else 'were'} certified on the same images; each promise holds "
            "on its own, but choosing the best of several needs a smaller delta "
            f"(--delta {delta / (before + 1):.3g} for {before + 1})"
        )
    if any(event["event"] == "bench policies" for event in run.events()):
        lines.append(
            "`bench policies` has read the labels of val_calib: nothing is promised about a policy "
            "that was chosen by its table; --policy auto chooses on val_select"
        )
    return tuple(lines)
