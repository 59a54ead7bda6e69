"""Images to features, the slow clock: sources, decoding, preprocessing, backbones, the engine.

Importing this package imports neither torch nor Pillow. It lets OpenMP threads sleep while they
wait, unless the user has set them otherwise (see `selectkit.threads`): torch's idle threads
otherwise spin, and with one busy neighbour a forward pass takes ten times as long. That works only
before torch is first imported.
"""

from selectkit.extract.backbones import ALIASES, Backbone, load_backbone
from selectkit.extract.decode import DECODER_POLICY, UndecodableImageError, decode
from selectkit.extract.doctor import Check, diagnose
from selectkit.extract.engine import ExtractionSummary, Progress, extract
from selectkit.extract.listing import Record
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.session import Extraction
from selectkit.extract.setup import begun_with
from selectkit.extract.sources import (
    Source,
    image_reader,
    open_source,
    reopen,
    require_readable,
)
from selectkit.threads import wait_passively
from selectkit.verbs import also_a_verb

__all__ = [
    "ALIASES",
    "DECODER_POLICY",
    "Backbone",
    "Check",
    "Extraction",
    "ExtractionSummary",
    "Preprocessing",
    "Progress",
    "Record",
    "Source",
    "UndecodableImageError",
    "begun_with",
    "decode",
    "diagnose",
    "extract",
    "image_reader",
    "load_backbone",
    "open_source",
    "reopen",
    "require_readable",
]

wait_passively()
also_a_verb(__name__)
