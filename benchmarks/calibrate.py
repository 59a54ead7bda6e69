"""Are calibrators fitted as fast as can be, and to the minimum?

Run `python -m benchmarks.calibrate > benchmarks/results/calibrate.jsonl`. netcal,
torch-uncertainty and dirichletcal are measured in the same run where they are installed;
`PYTHONPATH` may name a folder of packages (`pip install --target`). The floors are what an hour of
numpy gives: Newton's method for a temperature, L-BFGS for Dirichlet calibration. All times are CPU
seconds of one process; run it with one thread of BLAS.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from time import process_time

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from benchmarks._metrics_peers import installed
from selectkit.arrays import log_softmax, softmax
from selectkit.calibrate import (
    Beta,
    Dirichlet,
    Histogram,
    Isotonic,
    MatrixScaling,
    Platt,
    Temperature,
    VectorScaling,
)

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
PENALTIES = (1e-3, 1e-3)
PACKAGES = {
    "netcal": ("numpy", "scipy", "netcal"),
    "torch-uncertainty": ("torch-uncertainty", "torch"),
    "dirichletcal": ("dirichletcal", "jax"),
    "dirichletcal, L-BFGS": ("dirichletcal", "jax", "scipy"),
}


def sample(n: int, k: int) -> tuple[Floats, Labels]:
    """Logits, and labels of an affine map of them."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, k)) * 3
    w = np.diag(rng.uniform(0.4, 0.7, k)) + 0.05 * rng.normal(size=(k, k))
    y = (z @ w.T + 0.5 * rng.normal(size=k) + rng.gumbel(size=z.shape)).argmax(axis=1)
    return z, y


def plain_temperature(z: Floats, y: Labels) -> float:
    """Newton's method on all rows, no safeguard."""
    d, b = z - z[np.arange(len(y)), y][:, np.newaxis], 0.5
    for _ in range(30):
        p = np.exp(b * d - (b * d).max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        first = (p * d).sum(axis=1)
        step = first.mean() / ((p * d * d).sum(axis=1) - first**2).mean()
        b -= step
        if abs(step) < 1e-10:
            break
    return 1 / b


def objective(v: Floats, x: Floats, y: Labels) -> tuple[float, Floats]:
    """The penalised likelihood of Dirichlet calibration, and its gradient."""
    k, rows = x.shape[1], np.arange(len(y))
    w = v.reshape(k, k + 1)
    weights = np.full((k, k + 1), PENALTIES[0])
    weights[:, k] = PENALTIES[1]
    np.fill_diagonal(weights, 0)
    logs = log_softmax(x @ w[:, :k].T + w[:, k])
    p = np.exp(logs)
    p[rows, y] -= 1
    gradient = np.c_[p.T @ x, p.sum(axis=0)] / len(y) + 2 * weights * w
    return float(-logs[rows, y].mean() + (weights * w**2).sum()), gradient.ravel()


def plain_dirichlet(x: Floats, y: Labels) -> Floats:
    """SciPy's L-BFGS with the analytic gradient."""
    from scipy.optimize import minimize

    def value(v: Floats) -> tuple[float, Floats]:
        return objective(v, x, y)

    start: Floats = np.eye(x.shape[1], x.shape[1] + 1).ravel()
    found = minimize(
        value,
        start,
        args=(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-8},
    )
    return np.asarray(found.x)


def cpu(action: Callable[[], object], repetitions: int = 3) -> list[float]:
    times = []
    for _ in range(repetitions):
        start = process_time()
        action()
        times.append(process_time() - start)
    return times


def report(
    what: str, ours: Callable[[], object], peers: dict[str, Callable[[], object]], n: int = 3
) -> None:
    times = cpu(ours, n)
    number, spread = middle(times)
    figure(f"{what}: selectkit", number, "s", spread=spread, packages=("numpy", "scipy"))
    for name, action in peers.items():
        found, spread = middle(cpu(action, 1 if name != "plain numpy" else n))
        packages = PACKAGES.get(name, ("numpy", "scipy"))
        figure(f"{what}: {name}", found, "s", spread=spread, packages=packages)
        figure(f"{what}: {name} / selectkit", found / number, "x", packages=packages)


def netcal_fit(p: Floats, y: Labels) -> float:
    scaling = import_module("netcal.scaling").TemperatureScaling()
    scaling.fit(p if p.shape[1] > 2 else p[:, 1], y)
    return float(1 / np.ravel(scaling.temperature)[0])


def torch_uncertainty_fit(z: Floats, y: Labels) -> float:
    torch = import_module("torch")
    torch.set_num_threads(1)
    scaler = import_module("torch_uncertainty.post_processing").TemperatureScaler()
    scaler.fit([(torch.from_numpy(z), torch.from_numpy(y))], progress=False)
    return float(1 / scaler.inv_temp.item())


def temperatures(n: int, k: int) -> None:
    z, y = sample(n, k)
    p = softmax(z)
    fits: dict[str, Callable[[], float]] = {"plain numpy": lambda: plain_temperature(z, y)}
    if installed("netcal"):
        import_module("netcal.scaling")  # not on the clock
        fits["netcal"] = lambda: netcal_fit(p, y)
    if installed("torch_uncertainty"):
        import_module("torch_uncertainty.post_processing")
        fits["torch-uncertainty"] = lambda: torch_uncertainty_fit(z, y)
    found: dict[str, float] = {}

    def kept(name: str) -> None:
        found[name] = fits[name]()

    what = f"temperature, n = {n:,}, K = {k}"
    report(what, lambda: Temperature.fit(z, y), {name: partial(kept, name) for name in fits})
    ours = Temperature.fit(z, y).temperature
    for name, peer in found.items():
        packages = PACKAGES.get(name, ("numpy",))
        figure(f"{what}: |T - {name}'s T|", abs(ours - peer), "1", packages=packages)


def dirichletcal_fit(p: Floats, y: Labels, optimizer: str) -> Floats:
    """Its full parametrisation: the objective is then the one minimised here."""
    package = import_module("dirichletcal.calib.fulldirichlet")
    fitted = package.FullDirichletCalibrator(*PENALTIES, ref_row=False, optimizer=optimizer)
    fitted.fit(p, y)
    return np.asarray(fitted.calibrator_.weights_, dtype=np.float64).ravel()


def dirichlets(n: int, k: int, peer: bool) -> None:
    z, y = sample(n, k)
    x = log_softmax(z)
    what = f"Dirichlet-ODIR, n = {n:,}, K = {k}, penalties given"
    fits: dict[str, Callable[[], Floats]] = {}
    if peer:
        fits["L-BFGS"] = lambda: plain_dirichlet(x, y)
    if peer and installed("dirichletcal"):
        import_module("dirichletcal")  # not on the clock
        fits["dirichletcal"] = lambda: dirichletcal_fit(softmax(z), y, "newton")
        fits["dirichletcal, L-BFGS"] = lambda: dirichletcal_fit(softmax(z), y, "fmin_l_bfgs_b")
    found: dict[str, Floats] = {}

    def kept(name: str) -> None:
        found[name] = fits[name]()

    report(
        what,
        lambda: Dirichlet.fit(z, y, penalties=PENALTIES),
        {name: partial(kept, name) for name in fits},
    )
    report(
        f"Dirichlet-ODIR, n = {n:,}, K = {k}, penalties chosen", lambda: Dirichlet.fit(z, y), {}, 1
    )
    fitted = Dirichlet.fit(z, y, penalties=PENALTIES)
    v = np.c_[np.array(fitted.weights), np.array(fitted.bias)].ravel()
    for name, theirs in found.items():
        excess = objective(v, x, y)[0] - objective(theirs, x, y)[0]
        packages = PACKAGES.get(name, ("numpy", "scipy"))
        figure(f"{what}: objective above that of {name}", excess, "nats", packages=packages)


def others(n: int) -> None:
    for k, kinds in ((2, (Platt, Beta, Isotonic, Histogram)), (10, (VectorScaling, Isotonic))):
        z, y = sample(n, k)
        for kind in kinds:
            report(f"{kind.__name__}, n = {n:,}, K = {k}", partial(kind.fit, z, y), {})
    z, y = sample(n, 10)
    report(
        f"MatrixScaling, n = {n:,}, K = 10, penalties given",
        lambda: MatrixScaling.fit(z, y, penalties=PENALTIES), {},
    )  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for k in (2, 10):
        temperatures(1_000_000, k)
    dirichlets(10_000, 10, peer=True)
    dirichlets(1_000_000, 10, peer=False)
    others(1_000_000)


if __name__ == "__main__":
    main()
