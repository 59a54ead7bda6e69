"""Backbones: pixels to features. DINOv3 through timm or transformers, by name or folder."""

from selectkit.extract.backbones.aliases import ALIASES, Alias
from selectkit.extract.backbones.load import load_backbone
from selectkit.extract.backbones.protocol import Backbone
from selectkit.extract.backbones.tokens import TokenBackbone
from selectkit.extract.backbones.weights import weights_hash

__all__ = ["ALIASES", "Alias", "Backbone", "TokenBackbone", "load_backbone", "weights_hash"]
