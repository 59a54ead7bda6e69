"""Every error that selectkit raises on purpose.

::

    SelectkitError
    ├── ConfigError (ValueError)          a setting that cannot be used
    ├── DataError (ValueError)            an input array, file or label that cannot be used
    ├── LeakageError (ValueError)         a split used for what it must not be used for
    ├── CacheError (OSError)              a feature store that is missing, corrupt, stale or locked
    ├── ArtifactError (ValueError)        a JSON or safetensors file that is not what it must be
    ├── BackboneError (RuntimeError)      a backbone that cannot be found, read or run
    ├── CalibrationError (ValueError)     data that do not identify a calibrator
    └── RiskError (ValueError)            a risk target that makes no sense

Each message says what is wrong, where, and what to do. An infeasible target is not an error: it is
an answer (`selectkit.risk.Infeasible`).
"""


class SelectkitError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(SelectkitError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(SelectkitError, ValueError):
    """An input array, file, column or label cannot be used."""


class LeakageError(SelectkitError, ValueError):
    """A split was offered for a purpose that would spoil the evidence."""


class CacheError(SelectkitError, OSError):
    """A feature store is missing, corrupt, stale or locked."""


class ArtifactError(SelectkitError, ValueError):
    """An artifact is damaged, of another kind, or of a version this release cannot read."""


class BackboneError(SelectkitError, RuntimeError):
    """A backbone cannot be found, read or run."""


class CalibrationError(SelectkitError, ValueError):
    """The data do not identify the parameters of a calibrator."""


class RiskError(SelectkitError, ValueError):
    """A risk target, a confidence level or a grid makes no sense."""
