"""The verb `evaluate`: the run on val_test, as figures, tables and a page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import __version__, artifact, metrics, report
from selectkit.arrays import Bools
from selectkit.cache import Features, FeatureStore
from selectkit.config import EvaluateConfig
from selectkit.location import local_path
from selectkit.metrics import Interval
from selectkit.pipeline.calibrate import certified
from selectkit.pipeline.extract import settled
from selectkit.pipeline.measure import Judged, Sections, measure, measure_rates
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.thumbnails import hardest, thumbnails
from selectkit.policies import Outputs, SoftmaxPolicy, Target
from selectkit.report import Curve, PolicyRow, Reliability, RunReport

ALSO = ("coverage=0.8",)
SMALL_TEST = 45  # below it not even a 5 % rate can be shown at 90 % confidence


@dataclass(frozen=True)
class Evaluation:
    """What was measured on val_test.

    Attributes:
        run: The run directory; metrics.json, metrics.csv and report.html are in it.
        document: metrics.json.
        certificate: What is promised, in sentences.
        policies: The active policy and what it is compared with.
        warnings: What the reader must know.
    """

    run: Path
    document: dict[str, Any]
    certificate: tuple[str, ...]
    policies: tuple[PolicyRow, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return metrics.json."""
        return self.document

    def policy_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: policy, coverage, error among accepted, bound, deferred."""
        header = ["policy", "coverage", "error (95 %)", "certified", "deferred"]
        rows = [
            [
                ("* " if row.active else "  ") + row.policy,
                _percent(row.coverage[0]),
                _percent_interval(row.error),
                row.bound,
                f"{row.deferred:,}",
            ]
            for row in self.policies
        ]
        return header, rows

    def metric_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of all metrics."""
        rows = [
            [f"{section}: {name}", *(_number(e[part]) for part in ("value", "low", "high"))]
            for section, names in self.document["metrics"].items()
            for name, e in names.items()
        ]
        return ["metric", "value", "low", "high"], rows

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        return [*self.certificate, f"report: {self.run / 'report.html'}"]


def evaluate(
    run: str | Path,
    *,
    config: EvaluateConfig | None = None,
    store: str | Path | None = None,
    also: Sequence[str] = ALSO,
    **settings: Any,
) -> Evaluation:
    """Evaluate a calibrated run on val_test; write metrics.json, metrics.csv, report.html.

    Args:
        run: Run directory made by `fit` and `calibrate`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        also: Further targets, certified on val_calib and shown for comparison.
        **settings: Fields of `EvaluateConfig`, over `config`.

    Returns:
        What was measured.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        ArtifactError: If an artifact is missing, damaged or belongs to another head.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        DataError: If val_test has no labelled image.
    """
    chosen = settled(EvaluateConfig, config, settings)
    opened = RunDirectory.open(local_path(run, "a run directory"))
    cache = opened.store(store)
    policy, _ = opened.policy()
    calibrator, _ = opened.calibrator()
    test, outputs = opened.outputs(cache, "val_test", calibrator)
    judged = _judge(test, outputs, policy, opened.head.positive)
    sections, curve = measure(judged, n_replicates=chosen.replicates, seed=chosen.seed)
    policies = _policies(opened, cache, policy, judged, outputs, sections, chosen, also)
    null_level = sections["probabilities"]["ece_null_level"].value
    warnings = _warnings(test, policy, opened, judged)
    document = _document(opened, test, policy, sections, policies, warnings)
    pictures = _pictures(cache, test, judged, chosen.thumbnails)
    page = RunReport(
        title="Trust this prediction, or hand it on?",
        run="/".join(opened.path.resolve().parts[-2:]),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        target=_asked(policy),
        promise=_promise(policy),
        certificate=_sentences(policy),
        policies=policies,
        metrics=_shown(sections),
        classes=opened.head.classes,
        positive=opened.head.positive,
        labels=test.y,
        predictions=judged.decision.prediction,
        confidence=judged.decision.score,
        accepted=judged.decision.accepted,
        threshold=policy.threshold if policy.threshold > -1e300 else -math.inf,
        score=policy.score,
        curve=_curve(curve, sections, policy),
        reliability=_reliability(outputs, test, null_level),
        errors=pictures[0],
        deferrals=pictures[1],
        provenance=_provenance(opened, cache, test, chosen),
        commands=_commands(opened, chosen),
        warnings=warnings,
    )
    html = report.render(page).encode()
    artifact.save(opened.path / "metrics.json", "metrics", document)
    artifact.write_bytes(opened.path / "metrics.csv", _csv(sections).encode())
    artifact.write_bytes(opened.path / "report.html", html)
    opened.update("evaluate", chosen)
    result = Evaluation(
        run=opened.path,
        document=artifact.load(opened.path / "metrics.json", "metrics")[0],
        certificate=page.certificate,
        policies=policies,
        warnings=warnings,
    )
    opened.log("evaluate", metrics=document["metrics"]["operating"], warnings=warnings)
    return result


def _judge(test: Features, outputs: Outputs, policy: SoftmaxPolicy, positive: int | None) -> Judged:
    names, codes = np.unique(test.groups.astype(str), return_inverse=True)
    return Judged(
        labels=test.y,
        probabilities=outputs.probabilities,
        decision=policy.decide(outputs),
        groups=None if len(names) == len(test.y) else codes,
        positive=positive,
    )


def _policies(
    run: RunDirectory,
    store: FeatureStore,
    policy: SoftmaxPolicy,
    judged: Judged,
    outputs: Outputs,
    sections: Sections,
    config: EvaluateConfig,
    also: Sequence[str],
) -> tuple[PolicyRow, ...]:
    """The active policy between accepting everything and a few other targets."""
    calibrator, _ = run.calibrator()
    calib, calib_outputs = run.outputs(store, "val_calib", calibrator)
    everything = np.ones(len(judged.labels), dtype=np.bool_)
    rows = [_row("accept everything", "nothing", everything, judged, config)]
    operating = sections["operating"]
    for text in also:
        other, _ = certified(
            calib,
            calib_outputs,
            target=Target.parse(text),
            delta=_delta(policy),
            score=policy.scored_by,
            positive=judged.positive,
        )
        accepted = other.decide(outputs).accepted
        rows.append(_row(_name(other), _bound(other), accepted, judged, config))
    active = PolicyRow(
        policy=_name(policy),
        coverage=_estimate(operating["coverage"]),
        error=_estimate(operating["error"]),
        deferred=int((~judged.decision.accepted).sum()),
        bound=_bound(policy),
        active=True,
    )
    return (active, *(row for row in rows if row.policy != active.policy))


def _row(
    name: str, bound: str, accepted: Bools, judged: Judged, config: EvaluateConfig
) -> PolicyRow:
    found = measure_rates(
        judged,
        accepted,
        ("coverage", "error"),
        n_replicates=config.replicates,
        seed=config.seed,
    )
    return PolicyRow(
        policy=name,
        coverage=_estimate(found["coverage"]),
        error=_estimate(found["error"]),
        deferred=int((~accepted).sum()),
        bound=bound,
    )


def _document(
    run: RunDirectory,
    test: Features,
    policy: SoftmaxPolicy,
    sections: Sections,
    policies: tuple[PolicyRow, ...],
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    measured = {
        section: {name: _plain(interval) for name, interval in names.items()}
        for section, names in sections.items()
    }
    return {
        "head": run.head.hash,
        "policy": artifact.content_hash(policy.to_dict()),
        "split": {
            "name": test.split,
            "fingerprint": test.fingerprint,
            "n": len(test.y),
            "groups": len(set(test.groups)),
        },
        "classes": list(run.head.classes),
        "positive": run.head.document["positive"],
        "target": policy.to_dict()["target"],
        "certificate": list(_sentences(policy)),
        "metrics": measured,
        "policies": [
            {
                "policy": row.policy,
                "active": row.active,
                "coverage": _finite(row.coverage[0]),
                "error": dict(zip(("value", "low", "high"), map(_finite, row.error), strict=True)),
                "certified": row.bound,
                "deferred": row.deferred,
            }
            for row in policies
        ],
        "warnings": list(warnings),
    }


def _csv(sections: Sections) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["section", "metric", "value", "low", "high"])
    for section, names in sections.items():
        for name, interval in names.items():
            values = _plain(interval).values()
            writer.writerow([section, name, *("" if v is None else repr(v) for v in values)])
    return text.getvalue()


def _pictures(
    store: FeatureStore, test: Features, judged: Judged, n: int
) -> tuple[tuple[report.Thumbnail, ...], tuple[report.Thumbnail, ...]]:
    """The most confident accepted errors, and the least confident deferred images."""
    decision = judged.decision
    worst = hardest(decision.score, decision.accepted & judged.wrong, n, highest=True)
    deferred = hardest(decision.score, ~decision.accepted, n, highest=False)
    show = thumbnails(store, test, decision.prediction, decision.score)
    return show(worst), show(deferred)


def _curve(curve: Mapping[float, Interval], sections: Sections, policy: SoftmaxPolicy) -> Curve:
    coverage, risk = (sections["operating"][name].value for name in ("coverage", "error"))
    c = policy.certificate
    return Curve(
        coverage=np.array(list(curve)),
        risk=np.array([i.value for i in curve.values()]),
        low=np.array([i.low for i in curve.values()]),
        high=np.array([i.high for i in curve.values()]),
        point=(coverage, risk) if coverage > 0 else None,
        limit=c.alpha if c is not None and c.risk == "error" else None,
    )


def _reliability(outputs: Outputs, test: Features, null_level: float) -> Reliability:
    bins = metrics.reliability_bins(outputs.probabilities, test.y)
    return Reliability(
        low=bins.low,
        high=bins.high,
        confidence=bins.confidence,
        accuracy=bins.accuracy,
        count=bins.count,
        ece=bins.ece,
        null_level=null_level,
    )


def _shown(sections: Sections) -> dict[str, report.Estimate]:
    """The sections one after the other; what is measured twice is named by where."""
    shown = {name: _estimate(i) for name, i in sections["operating"].items() if name != "accuracy"}
    for section in ("all", "ranking", "probabilities"):
        for name, interval in sections[section].items():
            shown[f"{name}_all" if name in shown else name] = _estimate(interval)
    return shown


def _warnings(
    test: Features, policy: SoftmaxPolicy, run: RunDirectory, judged: Judged
) -> tuple[str, ...]:
    lines = []
    decided = judged.decision.accepted
    if judged.positive is not None:
        positives = decided & (test.y == judged.positive)
        if positives.any() and (judged.decision.prediction[positives] != judged.positive).all():
            lines.append(
                f"every decided image of the positive class {run.head.classes[judged.positive]!r} "
                "was missed; an error rate hides that when positives are rare: ask for --target fnr"
            )
    groups = len(set(test.groups))
    if groups < SMALL_TEST:
        lines.append(
            f"val_test has {groups:,} independent images or groups: its figures say little"
        )
    if groups < len(test.y):
        lines.append(
            f"val_test has {len(test.y):,} images of {groups:,} groups: intervals resample groups; "
            "rates count every image, a certificate counts every group once"
        )
    missing = [c for k, c in enumerate(run.head.classes) if not (test.y == k).any()]
    if missing:
        lines.append(f"val_test has no image of: {', '.join(missing)}")
    if policy.infeasible is not None:
        lines.append("no threshold could be certified, so everything is deferred")
    return tuple(lines)


def _provenance(
    run: RunDirectory, store: FeatureStore, test: Features, config: EvaluateConfig
) -> dict[str, str]:
    views = [store.view(name) for name in run.head.view.split("+")]
    backbones = " and ".join(str(view.fingerprint.get("id", "unknown")) for view in views)
    return {
        "selectkit": __version__,
        "store": f"{store.path.name}, {store.rows:,} rows",
        "view": f"{run.head.view} ({backbones}), {run.head.document['view_hash']}",
        "head": run.head.hash,
        "calibrator": run.calibrator()[1],
        "policy": artifact.content_hash(run.policy()[1]),
        "val_test": f"{len(test.y):,} labelled images, {test.fingerprint}",
        "bootstrap": f"{config.replicates:,} replicates, seed {config.seed}",
    }


def _commands(run: RunDirectory, config: EvaluateConfig) -> tuple[str, ...]:
    fit, calibrate = run.config.fit, run.config.calibrate
    name, store = run.path.resolve().name, Path(run.config.store or "").name
    return (
        f"selectkit extract SOURCE --out {store}    # backbone and preprocessing: see the view",
        f"selectkit fit {store} --out {name}{_flags(fit)}",
        f"selectkit calibrate {name}{_flags(calibrate)}",
        f"selectkit evaluate {name}{_flags(config)}",
    )


def _flags(config: Any) -> str:
    """The settings that differ from their defaults, as flags."""
    default = type(config)()
    return "".join(
        f" --{key.replace('_', '-')} {value}"
        for key, value in vars(config).items()
        if value != getattr(default, key)
    )


def _delta(policy: SoftmaxPolicy) -> float:
    return float(policy.to_dict()["delta"])


def _asked(policy: SoftmaxPolicy) -> str:
    target = policy.to_dict()["target"]
    if target["risk"] == "coverage":
        return f"coverage of {_percent(target['alpha'])}"
    return f"{target['risk']} <= {_percent(target['alpha'])}, confidence {1 - _delta(policy):.0%}"


def _name(policy: SoftmaxPolicy) -> str:
    target = policy.to_dict()["target"]
    return f"{target['risk']}={target['alpha']:g}"


def _bound(policy: SoftmaxPolicy) -> str:
    if policy.infeasible is not None:
        return "infeasible"
    c = policy.certificate
    if c is None or c.kind != "pac":
        return "nothing"
    return f"{c.risk} <= {_percent(c.alpha)}"


def _promise(policy: SoftmaxPolicy) -> report.Promise:
    if policy.certificate is None:
        return "infeasible"
    kinds: dict[str, report.Promise] = {"pac": "pac", "expectation": "expectation"}
    return kinds.get(policy.certificate.kind, "none")


def _sentences(policy: SoftmaxPolicy) -> tuple[str, ...]:
    if policy.infeasible is not None:
        return (policy.infeasible.message(), "Every image is handed on.")
    c = policy.certificate
    if c is None:
        return ()
    terms = "; ".join(c.assumptions) + "."
    return (c.sentence(), ("It assumes that " if c.kind != "none" else "Note: ") + terms)


def _estimate(interval: Interval) -> report.Estimate:
    return interval.value, interval.low, interval.high


def _plain(interval: Interval) -> dict[str, float | None]:
    value, low, high = map(_finite, _estimate(interval))
    return {"value": value, "low": low, "high": high}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.3g} %"


def _percent_interval(estimate: report.Estimate) -> str:
    value, low, high = estimate
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
