"""Every setting of every command: name, type, range, default and meaning, in one place.

Command-line flags (`--learning-rate`), TOML keys (`[fit] learning_rate`) and keyword arguments
(`selectkit.fit(..., learning_rate=...)`) are the fields of these classes.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from annotated_types import Ge, Gt, Lt

T = TypeVar("T")
Positive: TypeAlias = Annotated[int, Gt(0)]
Rate: TypeAlias = Annotated[float, Gt(0), Lt(1)]


def _setting(default: T, meaning: str) -> T:
    """A dataclass field with its meaning; typed as its default."""
    value: Any = field(default=default, metadata={"help": meaning})
    return value  # type: ignore[no-any-return] # dataclasses.field has the same typing


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `selectkit extract`."""

    path: str | None = _setting(None, "Manifest column with the image path.")
    label: str | None = _setting(
        None, "Manifest column with the label; 'none' when the images are unlabelled."
    )
    group: str | None = _setting(
        None, "Manifest column with the group (site, video, track) that splits must not break."
    )
    id: str | None = _setting(None, "Manifest column with the row id; defaults to the path.")
    backbone: str = _setting(
        "dinov3-s",
        "tiny, dinov3-{s,s+,b,l,h+,7b}, timm:<id>, hf:<org/name>, or a local checkpoint folder.",
    )
    view: str = _setting("base", "Name of the view in the store: one backbone over the index.")
    preprocess: Literal["auto", "meta-eval", "squash"] = _setting(
        "auto",
        "meta-eval: shorter side to size * 256 / 224, centre crop; squash: resize both sides; "
        "auto: what the backbone asks for.",
    )
    size: Positive | None = _setting(None, "Image side in pixels; defaults to the backbone's.")
    dtype: Literal["float16", "float32", "bfloat16"] = _setting(
        "float16", "Number format of the stored features."
    )
    batch_size: Positive = _setting(32, "Images per forward pass.")
    rows_per_shard: Positive = _setting(
        4096, "Rows per shard: the unit of work that an interruption can cost."
    )
    device: str = _setting("auto", "cpu, cuda, cuda:1, ...; auto takes a GPU when there is one.")


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `selectkit split`; None keeps what the store has."""

    salt: str | None = _setting(None, "Another salt gives another random split.")
    fractions: str | None = _setting(
        None, "Shares of train,val_select,val_calib,val_test, for instance 0.6,0.1,0.2,0.1."
    )


@dataclass(frozen=True)
class FitConfig:
    """Settings of `selectkit fit`."""

    view: str = _setting("base", "View whose features are used.")
    feature: Literal["cls", "patch_mean", "cat"] = _setting(
        "cls", "Cached feature; cat is cls and patch_mean side by side."
    )
    head: Literal["linear", "mlp"] = _setting("linear", "Kind of head.")
    positive: str | None = _setting(
        None, "Label whose misses count as false negatives; of two classes, the last by default."
    )
    seed: Annotated[int, Ge(0)] = _setting(0, "Seed of everything random.")
    hidden: Positive = _setting(768, "mlp: hidden units.")
    epochs: Positive = _setting(50, "mlp: most passes over train.")
    learning_rate: Annotated[float, Gt(0)] = _setting(1e-3, "mlp: peak learning rate of AdamW.")
    weight_decay: Annotated[float, Ge(0)] = _setting(1e-2, "mlp: weight decay of AdamW.")
    batch_size: Positive = _setting(512, "mlp: rows per step.")
    class_weights: Literal["none", "balanced"] = _setting(
        "none", "mlp: balanced weighs every class the same in the loss."
    )
    select_by: str = _setting(
        "nll", "mlp: early stopping on val_select by nll, augrc, or coverage@fnr=0.02."
    )


@dataclass(frozen=True)
class CalibrateConfig:
    """Settings of `selectkit calibrate`."""

    target: str | None = _setting(
        None, "What to promise: error, fnr, miss_rate or fpr =RATE, or coverage=SHARE."
    )
    delta: Rate = _setting(0.1, "The promise may fail with at most this probability.")
    calibrator: Literal["temperature", "platt", "none"] = _setting(
        "temperature", "Probability calibrator, fitted on val_select."
    )
    score: Literal["msp", "margin", "neg_entropy", "energy"] = _setting(
        "msp", "Confidence that is compared with the threshold; higher is accepted first."
    )


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `selectkit evaluate`."""

    replicates: Annotated[int, Ge(100)] = _setting(1000, "Bootstrap replicates.")
    seed: Annotated[int, Ge(0)] = _setting(0, "Seed of the bootstrap.")
    thumbnails: Annotated[int, Ge(0)] = _setting(
        24, "Images shown in the report: hardest accepted errors, and deferred, each at most."
    )


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration file; `store` and one table per command."""

    store: str | None = _setting(None, "Feature store of the run.")
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
