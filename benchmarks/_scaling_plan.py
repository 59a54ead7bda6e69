"""Large extractions: machines, backbones and prices, and what the model makes of them.

Nothing here is measured. What a GPU does follows from counted operations and stated shares of a
stated ceiling; prices are examples.
"""

from dataclasses import dataclass, replace
from math import ceil

from benchmarks._scaling_model import Costs, Job, limits, seconds, slowest

PIXELS = 224 * 224 * 3
"""Bytes of one image on its way to the device: uint8, 224 x 224."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A DINOv3 vision transformer with patches of 16 pixels, on images of 224 pixels.

    Attributes:
        name: Its letter.
        dim: D.
        flops: Operations per image, a multiplication and an addition counting as two.
        share: Assumed share of the device's ceiling that a compiled forward pass in bfloat16 uses.
    """

    name: str
    dim: int
    flops: float
    share: float


BACKBONES = (
    Backbone("S", 384, 9.40e9, 0.42),
    Backbone("B", 768, 35.86e9, 0.58),
    Backbone("L", 1024, 125.7e9, 0.66),
    Backbone("H+", 1280, 344.2e9, 0.75),
    Backbone("7B", 4096, 2725e9, 0.70),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One device and its share of the machine around it. All values are assumptions.

    Attributes:
        flops: Ceiling of the device's matrix products in bfloat16, per second.
        cores: Cores per device.
        bus: Bytes/s to the device.
        storage: Bytes/s that the images' storage delivers, per device.
        latency: Seconds that one request waits: none for files, tens of milliseconds for objects.
        start: Seconds until a process computes: imports, weights, compilation.
    """

    flops: float = 790e12
    cores: int = 16
    bus: float = 25e9
    storage: float = 2e9
    latency: float = 0.0
    start: float = 60.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Examples, not offers; any currency.

    Attributes:
        device_hour: One device with its cores, per hour.
        gigabyte_month: Storing the features for a month.
        thousand_writes: 1,000 writing requests to an object store.
        thousand_reads: 1,000 reading requests.
    """

    device_hour: float = 4.0
    gigabyte_month: float = 0.023
    thousand_writes: float = 0.005
    thousand_reads: float = 0.0004


@dataclass(frozen=True, slots=True)
class Extraction:
    """What is to be done, and with which settings.

    Attributes:
        images: N.
        file_bytes: Mean size of an image file.
        batch: Images per batch.
        rows_per_shard: Images per shard.
        workers: Decoders per device; 0 = one per core.
        features: Vectors per image: `cls` and `patch_mean`.
        feature_bytes: Bytes of a number: 2 in float16 and bfloat16.
        row_bytes: Bytes of an image's row in the index.
        list_row: Seconds that a process takes to list an image.
        rows_per_store: Images per store; more are several stores, each with its own listing.
        shard_writes: Writing requests of a shard, claims and listings included.
        shard_reads: Reading requests of a shard.
    """

    images: int
    file_bytes: float = 100e3
    batch: int = 256
    rows_per_shard: int = 4096
    workers: int = 0
    features: int = 2
    feature_bytes: int = 2
    row_bytes: float = 50.0
    list_row: float = 4e-6
    rows_per_store: int = 10**7
    shard_writes: float = 11.0
    shard_reads: float = 5.0

    @property
    def shards(self) -> int:
        """Shards of the store."""
        return ceil(self.images / self.rows_per_shard)

    @property
    def files(self) -> int:
        """Files of the store: per shard a part of the index, a chunk per feature, two commits."""
        return self.shards * (3 + self.features)

    def listed(self, devices: int) -> int:
        """Return the images that each process lists: all of every store that it works on."""
        mine = ceil(self.images / devices / self.rows_per_store) * self.rows_per_store
        return min(self.images, mine)

    def store_bytes(self, backbone: Backbone) -> float:
        """Return the size of the store."""
        vectors = self.features * self.feature_bytes * backbone.dim
        return self.shards * self.rows_per_shard * vectors + self.images * self.row_bytes


def job(work: Extraction, backbone: Backbone, machine: Machine, devices: int = 1) -> Job:
    """Return one device's part of an extraction.

    Args:
        work: All of it.
        backbone: The model.
        machine: What each device has.
        devices: How many share the work.

    Returns:
        What the model of `_scaling_model` takes.
    """
    return Job(
        images=ceil(work.images / devices),
        forward=work.batch * backbone.flops / (machine.flops * backbone.share),
        batch=work.batch,
        workers=work.workers or machine.cores,
        cores=machine.cores,
        rows_per_shard=work.rows_per_shard,
        latency=machine.latency,
        overlap=True,
        read=machine.storage / work.file_bytes,
        transfer=machine.bus / PIXELS,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What an extraction takes.

    Attributes:
        rates: Images/s per device that each stage could do.
        images_per_second: Per device, from start to end.
        hours: Wall time.
        device_hours: Of all devices.
        core_hours: Processor time of all decoders.
        store_bytes: Size of the store.
        writes: Writing requests, if the store were an object store.
        reads: Reading requests, if the images were in one.
        price: All of it, the features stored for a month.
    """

    rates: dict[str, float]
    images_per_second: float
    hours: float
    device_hours: float
    core_hours: float
    store_bytes: float
    writes: float
    reads: float
    price: float

    @property
    def limit(self) -> str:
        """The slowest stage."""
        return slowest(self.rates)

    @property
    def following(self) -> str:
        """The stage that limits once the slowest one does not."""
        return slowest({name: r for name, r in self.rates.items() if name != self.limit})

    def utilisation(self, stage: str) -> float:
        """Return the share of time that a stage works, between 0 and 1."""
        return self.rates[self.limit] / self.rates[stage]


def plan(
    work: Extraction,
    backbone: Backbone,
    costs: Costs,
    *,
    machine: Machine | None = None,
    devices: int = 1,
    prices: Prices | None = None,
) -> Plan:
    """Return what an extraction takes.

    Args:
        work: The images and the settings.
        backbone: The model.
        costs: What an image and a shard cost the host, measured.
        machine: What each device has; default the example.
        devices: How many share the work.
        prices: Default the examples.

    Returns:
        The plan.
    """
    machine, prices = machine or Machine(), prices or Prices()
    part = job(work, backbone, machine, devices)
    requests = work.shard_writes + work.shard_reads
    costs = replace(costs, commit=costs.commit + requests * machine.latency)
    start = machine.start + work.list_row * work.listed(devices)
    wall = start + seconds(part, costs)
    each = costs.crowding * (costs.load + costs.feed + costs.shard / work.rows_per_shard)
    device_hours = devices * wall / 3600
    stored = work.store_bytes(backbone)
    writes = work.shards * work.shard_writes
    reads = work.images + work.shards * work.shard_reads
    return Plan(
        rates=limits(part, costs),
        images_per_second=part.images / wall,
        hours=wall / 3600,
        device_hours=device_hours,
        core_hours=work.images * each / 3600,
        store_bytes=stored,
        writes=writes,
        reads=reads,
        price=device_hours * prices.device_hour
        + stored / 1e9 * prices.gigabyte_month
        + writes / 1000 * prices.thousand_writes
        + reads / 1000 * prices.thousand_reads,
    )
