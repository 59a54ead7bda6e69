"""Heads, gates, sweeps and folds from the command line, on real images and at the edge."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from tests.e2e.conftest import Result
from tests.unit.pipeline.pipeline_samples import blobs, rows_in, store_of

Cli = Callable[..., Result]
SMALL = ("--hidden", 16, "--epochs", 8, "--learning-rate", 0.01, "--device", "cpu")

CHILD = """
from selectkit.cli.main import main
from selectkit.pipeline import training

training.CHECKPOINT_SECONDS = 0.0
main()
"""


@pytest.fixture(scope="module")
def cifar(shared_data: Path, tmp_path_factory: pytest.TempPathFactory, cli: Cli) -> Path:
    """600 photographs of two classes."""
    folder = shared_data / "cifar10_jpg"
    with (folder / "labels.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["class_name"] in {"airplane", "truck"}]
    place = tmp_path_factory.mktemp("cifar")
    with (place / "labels.csv").open("w") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows({**r, "file": str(folder / r["file"])} for r in rows)
    done = cli("extract", place / "labels.csv", "--path", "file", "--label", "class_name",
               "--out", place / "s.zarr", "--backbone", "tiny")  # fmt: skip
    assert done.code == 0, done.err
    return place / "s.zarr"


def test_three_heads_gate_calibrate_evaluate(cli: Cli, cifar: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fitted = cli("fit", cifar, "--out", run, "--head", "three", "--coverage", 0.7,
                 "--feature", "cat", "--hidden", 64, "--epochs", 20, "--json")  # fmt: skip
    assert fitted.code == 0, fitted.err
    assert json.loads(fitted.out)["head"] == "three"
    head = json.loads((run / "head.json").read_text())
    assert head["training"]["loss"]["kind"] == "selective_net"
    assert head["training"]["loss"]["coverage"] == 0.7
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    epochs = [e for e in events if e["event"] == "epoch"]
    assert [e["epoch"] for e in epochs] == list(range(1, len(epochs) + 1))
    assert all({"train_loss", "criterion", "learning_rate", "parts"} <= set(e) for e in epochs)
    assert 0 < epochs[-1]["parts"]["coverage"] < 1
    store = FeatureStore.open(cifar)
    gates = [name for name in store.heads("base") if name.endswith("-gate")]
    assert gates
    assert cli("calibrate", run, "--target", "coverage=0.5", "--score", "gate").code == 0
    assert (run / "gateparams.json").is_file()
    done = cli("evaluate", run, "--json")
    assert done.code == 0, done.err
    assert (run / "report.html").is_file()
    compared = cli("compare", run, "--scores")
    assert compared.code == 0
    assert "gate" in compared.out


def test_sweep(cli: Cli, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        '[grid]\nhead = ["linear", "mlp", "three"]\nseed = [0, 1]\n'
        "[random]\ndraws = 2\nweight_decay = { low = 1e-4, high = 1.0, log = true }\n"
    )
    run = tmp_path / "run"
    settings = ("--sweep", file, "--select-by", "augrc", *SMALL)
    done = cli("fit", store, "--out", run, *settings, "--sort", "accuracy")
    assert done.code == 0, done.err
    assert "winner's curse" in done.err
    assert "judged on what they left out" in done.err
    lines = [line.split() for line in done.out.splitlines()]
    header = next(line for line in lines if line[:1] == ["number"])
    assert header[:4] == ["number", "head", "seed", "weight_decay"]
    column = header.index("accuracy") - len(header)
    numbers = [
        line for line in lines if line and line[0].isdigit() and "configurations" not in line
    ]
    shown = [float(line[column]) for line in numbers]
    assert len(shown) == 9  # seeds and decays make no difference to the linear head
    assert shown == sorted(shown, reverse=True)
    again = cli("fit", store, "--out", run, *settings, "--json")
    document = json.loads(again.out)
    trials = document["trials"]
    assert len(trials) == 9
    assert trials[document["winner"] - 1]["criterion"] == min(t["criterion"] for t in trials)
    assert document["reestimate"]["naive"] == min(t["criterion"] for t in trials)
    assert sum(t["won"] for t in trials) == pytest.approx(1)
    kept = json.loads((run / "head.json").read_text())
    assert kept["type"] == trials[document["winner"] - 1]["settings"]["head"]
    with (run / "sweep.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [float(r["criterion"]) for r in rows] == sorted(t["criterion"] for t in trials)
    page = (run / "sweep.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert cli("calibrate", run, "--target", "coverage=0.5").code == 0


def test_a_long_table_of_a_sweep_shows_the_first_and_the_winner(
    cli: Cli, store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        "[random]\ndraws = 50\nlearning_rate = { low = 1e-4, high = 1e-1, log = true }\n"
    )
    tiny = ("--head", "mlp", "--hidden", 0, "--epochs", 3, "--batch-size", 128, "--device", "cpu")
    settings = ("--sweep", file, "--sort", "learning_rate")
    done = cli("fit", store, "--out", tmp_path / "r", *tiny, *settings)
    assert done.code == 0, done.err
    assert "(first 40 of 50 by learning_rate, * = kept)" in done.out
    assert done.out.count(" *  ") == 1
    numbered = [line for line in done.out.splitlines() if line.strip()[:1].isdigit()]
    assert len([line for line in numbered if "configurations" not in line]) in {40, 41}


def test_folds(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("fit", store, "--out", tmp_path / "r", "--folds", 3, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)["out_of_fold"]
    assert told["folds"] == 3
    assert told["logits"] in FeatureStore.open(store).heads("base")
    assert 0.5 < told["accuracy"] < 1
    assert cli("verify", store).code == 0


def test_killed_and_taken_up(cli: Cli, store: Path, tmp_path: Path) -> None:
    """kill -9 in the middle; the same command goes on and ends with the same bytes."""
    settings = ["--head", "mlp", "--hidden", "16", "--epochs", "200", "--patience", "200",
                "--device", "cpu"]  # fmt: skip
    run = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, "fit", str(store), "--out", str(run), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        log = run / "log.jsonl"
        while not log.is_file() or log.read_text().count("\n") < 5:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "head.json").exists()
    assert "no run at" in cli("calibrate", run, "--target", "error=0.1").err
    done = cli("fit", store, "--out", run, *settings)
    assert done.code == 0, done.err
    events = map(json.loads, log.read_text().splitlines())
    epochs = [e["epoch"] for e in events if e["event"] == "epoch"]
    assert epochs[-1] == 200
    assert epochs.count(1) == 1  # it went on
    assert len(epochs) in {199, 200, 201}  # the last one before the kill may be there twice or not
    straight = tmp_path / "straight"
    assert cli("fit", store, "--out", straight, *settings).code == 0
    for name in ("head.json", "head.safetensors"):
        assert (run / name).read_bytes() == (straight / name).read_bytes()
    assert not (run / "checkpoint").exists()


def test_ctrl_c_says_how_to_go_on(
    cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selectkit.cli.curves import Curves
    from selectkit.pipeline import training

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Curves, "add", interrupt)
        result = cli("fit", store, "--out", tmp_path / "r", "--head", "mlp", *SMALL)
    assert result.code == 130
    assert "run the same command again to go on" in result.err
    assert list((tmp_path / "r" / "checkpoint").iterdir())
    assert cli("fit", store, "--out", tmp_path / "r", "--head", "mlp", *SMALL).code == 0


@pytest.mark.parametrize("sweep", [False, True])
def test_sigterm_says_how_to_go_on(
    cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: bool
) -> None:
    from selectkit.pipeline import fit, training

    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nseed = [0, 1]\n")
    more = ("--sweep", file) if sweep else ()
    command = ("fit", store, "--out", tmp_path / "r", "--head", "mlp", *SMALL, *more)
    epochs: list[int] = []

    def terminate(place: Path, event: str, **values: Any) -> None:
        if event == "epoch":
            epochs.append(values["epoch"])
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    ignored: list[int] = []

    def earlier(number: int, frame: object) -> None:
        ignored.append(number)

    before = signal.signal(signal.SIGTERM, earlier)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules[fit.__module__], "log_event", terminate)
            result = cli(*command)
        assert signal.getsignal(signal.SIGTERM) is earlier
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.code, epochs, ignored) == (130, [1], [])
    assert result.err == "error: interrupted; run the same command again to go on\n"
    assert list((tmp_path / "r" / "checkpoint").iterdir())
    assert cli(*command).code == 0
    assert not (tmp_path / "r" / "checkpoint").exists()


def test_more_hidden_units_than_memory_are_one_line(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("fit", store, "--out", tmp_path / "r", "--head", "mlp", "--hidden", 10**15)
    assert done.code == 2
    assert done.err.startswith("error: hidden = 1000000000000000: the weights take ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_tensorboard(cli: Cli, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    done = cli("fit", store, "--out", run, "--head", "mlp", "--tensorboard", *SMALL)
    assert done.code == 0, done.err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard" / "fit")).Reload()
    assert {"train_loss", "criterion", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train_loss")] == list(range(1, 9))


def test_tensorboard_is_an_extra(
    cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selectkit.heads.training import tensorboard

    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    done = cli("fit", store, "--out", tmp_path / "r", "--head", "mlp", "--tensorboard")
    assert done.code == 2
    assert 'pip install "selectkit[tensorboard]"' in done.err
    assert not (tmp_path / "r").exists()


LINEAR = ("linear", "ridge", "prototype", "knn")
TRAINED: dict[str, tuple[object, ...]] = {
    "mlp": (),
    "mlp, focal": ("--loss", "focal", "--class-weights", "balanced"),
    "mlp, smoothed, sgd": ("--smoothing", 0.1, "--optimizer", "sgd"),
    "mlp, sam, lion": ("--sam-rho", 0.05, "--optimizer", "lion", "--batch-size", 32),
    "mlp, conformal sets": ("--loss", "conformal_sets", "--target", "error=0.2"),
    "mlp, conformal risk": ("--loss", "conformal_risk", "--target", "fnr=0.2"),
    "three": (),
    "three, risk-aware": ("--risk-target", 0.05, "--coverage", 0.7),
    "three, unnormalised, balanced": ("--unnormalised", "--class-weights", "balanced"),
    "abstain": (),
    "abstain, gamblers": ("--loss", "gamblers", "--pretrain", 2),
}
HEADS = (*LINEAR, *TRAINED)


def _fit(cli: Cli, place: Path, head: str, *more: object) -> Result:
    trained = (*SMALL, *TRAINED[head]) if head in TRAINED else ()
    kind = head.partition(",")[0]
    return cli("fit", place, "--out", place.parent / "run", "--head", kind, *trained, *more)


def _one_line(result: Result, words: str) -> None:
    assert result.code == 2, result
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert words in result.err


@pytest.mark.parametrize("head", HEADS)
def test_one_class_in_train(cli: Cli, tmp_path: Path, head: str) -> None:
    x, labels = blobs(200)
    for i in rows_in("train", 200):
        labels[i] = "a"
    store_of(tmp_path / "s.zarr", x, labels)
    _one_line(_fit(cli, tmp_path / "s.zarr", head), "labelled images of 1 class")
    assert not (tmp_path / "run").exists()


REFUSED = {
    ("two each", "mlp, sam, lion"): "Friendly SAM needs mini-batches: the 4 training rows are one",
    ("two each", "mlp, conformal sets"): "needs 4 rows in half a batch, and train has 4 in all",
    ("two each", "mlp, conformal risk"): "needs 4 positives in half a batch, and train has 2 in",
    ("imbalance", "mlp, conformal risk"): "needs 4 positives in half a batch, and train has 2 in",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "kind", ["constant", "constant column", "wide", "two each", "imbalance", "copies", "unlabelled"]
)
def test_data_at_the_edge(cli: Cli, tmp_path: Path, head: str, kind: str) -> None:
    """Every head says something finite about every row, and nothing worse than a constant."""
    x, labels, images = _edge(kind)
    store = store_of(tmp_path / "s.zarr", x, labels, images=images)
    done = _fit(cli, tmp_path / "s.zarr", head, "--json")
    if (kind, head) in REFUSED:
        _one_line(done, REFUSED[kind, head])
        return
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_train"] == {"two each": 4, "imbalance": 2002}.get(
        kind, json.loads(done.out)["n_train"]
    )
    (name,) = (n for n in store.heads("base") if not n.endswith("-gate"))
    z = store.logits("base", name).read()
    assert np.isfinite(z).all()
    if kind in {"constant", "two each", "wide"}:  # nothing, or not enough, to learn from
        return
    y = np.array([-1 if c is None else "ab".index(c) for c in labels])
    recalls = [(z.argmax(axis=1) == k)[y == k].mean() for k in (0, 1)]
    if "--class-weights" in TRAINED.get(head, ()):  # the rare class counts as much as the other
        assert np.mean(recalls) >= 0.48
        return
    shares = np.array([(y == 0).sum(), (y == 1).sum()]) / (y >= 0).sum()
    assert shares @ recalls >= shares.max() - 0.02


def _edge(kind: str) -> tuple[Any, list[str | None], list[int] | None]:
    if kind == "imbalance":  # 1,000 to 1 in train
        x, labels = blobs(4000, d=3)
        few = [*rows_in("train", 4000)[:2], *rows_in("val_select", 4000)[:2]]
        many = rows_in("train", 4000)[2:2002] + rows_in("val_select", 4000)[2:]
        x[few] += 6
        told = {**dict.fromkeys(many, "a"), **dict.fromkeys(few, "b")}
        return x, [told.get(i) for i in range(4000)], None
    if kind == "copies":
        x, labels = blobs(60, distance=3)
        return np.tile(x, (6, 1)), labels * 6, [i % 60 for i in range(360)]
    n, d = (100, 500) if kind == "wide" else (400, 6)
    x, labels = blobs(n, d=d, distance=3)
    if kind == "constant":
        x = np.ones_like(x)
    if kind == "constant column":
        x[:, 1] = 7.0
    if kind == "two each":
        train = rows_in("train", n)
        kept = [i for c in "ab" for i in [j for j in train if labels[j] == c][:2]]
        labels = [None if i in train and i not in kept else c for i, c in enumerate(labels)]
    if kind == "unlabelled":
        labels = [None if i % 2 else c for i, c in enumerate(labels)]
    return x, labels, None
