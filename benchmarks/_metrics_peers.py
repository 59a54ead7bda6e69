"""The same metrics from other packages, each imported only where it is installed.

Every peer gets what it computes from, made ready before the clock starts: torch's tensors share
memory with the arrays, relplot and MAPIE are given what is right, torch-uncertainty's areas are
timed without their `update`. fd-shifts' class calls a function that numpy 2.4 has not, so its two
curves are integrated here; it is on no registry, and a folder with its source takes part.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks._metrics_plain import Floats, Labels


@dataclass(frozen=True)
class Rival:
    """Something to be as fast as.

    Attributes:
        name: Of the package, or what it does.
        action: What is timed.
        packages: Whose versions matter.
        share: Part of the work that it does; its time is divided by that.
        answers: Its values by name, of the metrics that it defines as we do.
    """

    name: str
    action: Callable[[], object]
    packages: tuple[str, ...] = ("numpy",)
    share: float = 1.0
    answers: Callable[[], Mapping[str, float]] = dict


def installed(*modules: str) -> bool:
    """Return whether all can be imported; say on stderr which cannot."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        print(f"{', '.join(missing)} is not installed and not measured", file=sys.stderr)
    return not missing


def areas(s: Floats, e: Floats) -> list[Rival]:
    """Return the packages that compute AURC or AUGRC of confidences and 0/1 losses (N,)."""
    found = []
    if installed("torch_uncertainty"):
        for name in ("AURC", "AUGRC"):
            metric = _torch_area(name, s, e)
            found.append(
                Rival(
                    f"torch-uncertainty, {name} alone",
                    metric.compute,
                    ("torch-uncertainty", "torch"),
                    answers=partial(_named, name, metric.compute),
                )
            )
    if installed("fd_shifts"):
        action = partial(_fd_shifts, s, e)
        found.append(Rival("fd-shifts", action, ("fd-shifts", "numpy"), answers=action))
    return found


def bootstraps(s: Floats, e: Floats, replicates: int) -> list[Rival]:
    """Return packages that resample areas; they are slow and do a few of the replicates."""
    found = []
    if installed("torch_uncertainty", "torchmetrics"):
        few = 10
        found.append(
            Rival(
                "torch-uncertainty through torchmetrics, AURC alone",
                lambda: _torch_bootstrap(s, e, few),
                ("torch-uncertainty", "torchmetrics", "torch"),
                share=few / replicates,
            )
        )
    if installed("fd_shifts"):
        rng = np.random.default_rng(0)

        def twice() -> None:
            for i in rng.integers(0, len(s), (2, len(s))):
                _fd_shifts(s[i], e[i])

        found.append(Rival("fd-shifts", twice, ("fd-shifts", "numpy"), share=2 / replicates))
    return found


def binned(p: Floats, y: Labels) -> list[Rival]:
    """Return the packages that compute an ECE of 15 bins of equal width, top label."""
    found = []
    if installed("netcal"):
        netcal = import_module("netcal.metrics").ECE(15)
        found.append(_one("ECE", "netcal", lambda: netcal.measure(p, y), "netcal"))
    if installed("torchmetrics"):
        of_torch = import_module("torchmetrics.functional.classification")
        q, t = _tensors(p, y)
        found.append(
            _one(
                "ECE",
                "torchmetrics",
                lambda: of_torch.multiclass_calibration_error(q, t, p.shape[1], n_bins=15),
                "torchmetrics",
                "torch",
            )
        )
    if installed("mapie"):
        mapie = import_module("mapie.metrics.calibration").expected_calibration_error
        right = (p.argmax(axis=1) == y).astype(int)
        action = partial(mapie, right, p, num_bins=15)
        found.append(_one("ECE", "MAPIE, given what is right", action, "mapie"))
    return found


def binned_confidences(c: Floats, right: Floats) -> list[Rival]:
    """Return the same packages, given confidences and what is right instead of probabilities."""
    found = []
    if installed("netcal"):
        netcal = import_module("netcal.metrics").ECE(15)
        found.append(_one("ECE", "netcal", lambda: netcal.measure(c, right), "netcal"))
    if installed("torchmetrics"):
        of_torch = import_module("torchmetrics.functional.classification")
        q, t = _tensors(c, right.astype(np.int64))
        action = partial(of_torch.binary_calibration_error, q, t, n_bins=15)
        found.append(_one("ECE", "torchmetrics", action, "torchmetrics", "torch"))
    if installed("mapie"):
        mapie = import_module("mapie.metrics.calibration").expected_calibration_error
        hits = right.astype(int)
        found.append(_one("ECE", "MAPIE", lambda: mapie(hits, c, num_bins=15), "mapie"))
    return found


def smooth(p: Floats, y: Labels) -> list[Rival]:
    """Return the package that computes the smooth ECE; it gets confidences and what is right."""
    if not installed("relplot"):
        return []
    relplot = import_module("relplot")
    top, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)
    action = partial(relplot.smECE, top, right)
    return [_one("smooth ECE", "relplot, given confidences and what is right", action, "relplot")]


def _one(metric: str, name: str, action: Callable[[], Any], *packages: str) -> Rival:
    return Rival(name, action, packages, answers=partial(_named, metric, action))


def _named(metric: str, action: Callable[[], Any]) -> dict[str, float]:
    return {metric: float(action())}


def _tensors(*arrays: Any) -> list[Any]:
    """Tensors of the same memory; torch keeps to one thread, as all that is timed here does."""
    torch = import_module("torch")
    torch.set_num_threads(1)
    return [torch.from_numpy(array) for array in arrays]


def _torch_area(name: str, s: Floats, e: Floats) -> Any:
    """A metric of torch-uncertainty that holds its samples; `compute` does all the work."""
    classes = import_module("torch_uncertainty.metrics.classification")
    metric = getattr(classes, name)(compute_with_cache=False)
    metric.update(*_tensors(*_binary(s, e)))
    return metric


def _torch_bootstrap(s: Floats, e: Floats, replicates: int) -> object:
    aurc = import_module("torch_uncertainty.metrics.classification").AURC()
    wrapper = import_module("torchmetrics.wrappers").BootStrapper
    metric = wrapper(aurc, num_bootstraps=replicates, sampling_strategy="multinomial")
    metric.update(*_tensors(*_binary(s, e)))
    return metric.compute()


def _binary(s: Floats, e: Floats) -> tuple[Floats, Labels]:
    """Probabilities of class 1, all above one half, ranked as `s`; and labels with errors `e`."""
    return 0.5 + s / (2 * s.max()) + 1e-9, (1 - e).astype(np.int64)


def _fd_shifts(s: Floats, e: Floats) -> dict[str, float]:
    curves = import_module("fd_shifts.analysis.rc_stats_utils")
    by_name = {"AURC": curves.selective_risk_stats, "AUGRC": curves.generalized_risk_stats}
    found = {name: curve(confids=s, residuals=e) for name, curve in by_name.items()}
    return {k: -float(np.trapezoid(v["risks"], v["coverages"])) for k, v in found.items()}
