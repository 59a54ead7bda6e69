"""Settings of `selectkit extract`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from selectkit.config.setting import Count, Help, Positive


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `selectkit extract`."""

    path: Annotated[str | None, Help("Manifest column with the image path.")] = None
    label: Annotated[
        str | None, Help("Manifest column with the label; 'none' when the images are unlabelled.")
    ] = None
    group: Annotated[
        str | None,
        Help("Manifest column with the group (site, video, track) that splits must not break."),
    ] = None
    id: Annotated[str | None, Help("Manifest column with the row id; defaults to the path.")] = None
    backbone: Annotated[
        str,
        Help(
            "tiny, dinov3-{s,s+,b,l,h+,7b}, timm:<id>, hf:<org/name>, or a local checkpoint folder."
        ),
    ] = "dinov3-s"
    view: Annotated[str, Help("Name of the view in the store: one backbone over the index.")] = (
        "base"
    )
    preprocess: Annotated[
        str,
        Help(
            "meta-eval: shorter side to size * 256 / 224, centre crop; "
            "squash: resize both sides; auto: what the backbone asks for; "
            "or a .toml or .json file with size, mode, interpolation, resize (shorter side)."
        ),
    ] = "auto"
    size: Annotated[Positive | None, Help("Image side in pixels; defaults to the backbone's.")] = (
        None
    )
    dtype: Annotated[
        Literal["float16", "float32", "bfloat16"], Help("Number format of the stored features.")
    ] = "float16"
    last: Annotated[
        Count,
        Help("n: also cache cls_last<n>, the class tokens of the last n blocks."),
    ] = 0
    flip: Annotated[
        bool, Help("Features are the mean over each image and its mirror image; twice the work.")
    ] = False
    crops: Annotated[
        Literal[1, 5],
        Help(
            "5: features are the mean over the centre and the four corners of meta-eval's resize."
        ),
    ] = 1
    compute: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Help(
            "Precision of the forward pass; auto: the view's own, else bfloat16 where the hardware "
            "is made for it and features stay near."
        ),
    ] = "auto"
    compile: Annotated[
        bool,
        Help(
            "Compile the forward pass on the CPU: half a minute or more at the start, then about a "
            "fifth faster; rounds otherwise, so a view keeps to it. On CUDA it always is."
        ),
    ] = False
    batch_size: Annotated[
        Positive | None,
        Help("Images per forward pass; by default the view's own, else what the device takes."),
    ] = None
    workers: Annotated[
        Positive | None, Help("Decoders at work; by default one per core this process may use.")
    ] = None
    rows_per_shard: Annotated[
        Positive, Help("Rows per shard: the unit of work that an interruption can cost.")
    ] = 4096
    jpeg_decoder: Annotated[
        Literal["cpu", "gpu"],
        Help(
            "gpu: plain JPEG files are decoded on the CUDA device (extra gpu); other pixels, less "
            "damage is found, and a view keeps to one decoder."
        ),
    ] = "cpu"
    device: Annotated[str, Help("cpu, cuda, cuda:1, ...; auto takes a GPU when there is one.")] = (
        "auto"
    )
    rescan: Annotated[
        bool,
        Help("Read committed images again: take over changed ones, mark missing ones as deleted."),
    ] = False
    shard_range: Annotated[
        str | None,
        Help("i/n: only the i-th of n parts, for jobs of a scheduler that fill one store."),
    ] = None
    engine: Annotated[
        Literal["local", "ray"],
        Help("local: this process; ray: workers of a Ray cluster, one per GPU or machine."),
    ] = "local"
    actors: Annotated[
        Positive | None, Help("ray: number of workers; default one per GPU, else per machine.")
    ] = None
    ray_address: Annotated[
        str | None,
        Help("ray: host:port or auto; default RAY_ADDRESS, else a cluster on this machine."),
    ] = None
