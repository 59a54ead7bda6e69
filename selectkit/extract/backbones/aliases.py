"""Short names of backbones.

The timm copies of the DINOv3 weights are published with Meta's consent and need no access request
(facebookresearch/dinov3, issue 145); the licence is the same DINOv3 License.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """What a short name stands for.

    Attributes:
        spec: The full name that `load_backbone` takes; "tiny" stands for itself.
        dim: D, the length of a feature vector.
        parameters: Number of weights in millions.
    """

    spec: str
    dim: int
    parameters: float


ALIASES: dict[str, Alias] = {
    "tiny": Alias("tiny", 128, 0.56),
    "dinov3-s": Alias("timm:vit_small_patch16_dinov3.lvd1689m", 384, 21.6),
    "dinov3-s+": Alias("timm:vit_small_plus_patch16_dinov3.lvd1689m", 384, 28.7),
    "dinov3-b": Alias("timm:vit_base_patch16_dinov3.lvd1689m", 768, 85.7),
    "dinov3-l": Alias("timm:vit_large_patch16_dinov3.lvd1689m", 1024, 303.1),
    "dinov3-h+": Alias("timm:vit_huge_plus_patch16_dinov3.lvd1689m", 1280, 840.6),
    "dinov3-7b": Alias("timm:vit_7b_patch16_dinov3.lvd1689m", 4096, 6716.0),
}
