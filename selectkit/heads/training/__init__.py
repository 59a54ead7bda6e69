"""Training of heads with torch: losses, optimisers, batches, the loop. Nothing here predicts."""

from selectkit.heads.training.abstaining import Gamblers, SelfAdaptive
from selectkit.heads.training.batches import WORKING_SET
from selectkit.heads.training.conformal import ConformalRisk, ConformalSets
from selectkit.heads.training.losses import CrossEntropy, Focal, Loss
from selectkit.heads.training.recipe import Epoch, Recipe, Sharpness
from selectkit.heads.training.selective import SelectiveNet
from selectkit.heads.training.source import FeatureRows, LazyRows, RowReader

__all__ = [
    "WORKING_SET",
    "ConformalRisk",
    "ConformalSets",
    "CrossEntropy",
    "Epoch",
    "FeatureRows",
    "Focal",
    "Gamblers",
    "LazyRows",
    "Loss",
    "Recipe",
    "RowReader",
    "SelectiveNet",
    "SelfAdaptive",
    "Sharpness",
]
