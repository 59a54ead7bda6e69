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
    ├── RiskError (ValueError)            a risk target that makes no sense
    ├── RemoteError (RuntimeError)        an object store that cannot be reached, or refuses
    ├── WorkerError (RuntimeError)        workers of a cluster that end before their work does
    └── MissingExtraError (ImportError)   an optional part that is not installed

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


class RemoteError(SelectkitError, RuntimeError):
    """An object store as a whole cannot be used: no network, bucket or credentials.

    It is no OSError, because that means one file: whoever goes on after a damaged or missing file
    must not go on after this.
    """


class WorkerError(SelectkitError, RuntimeError):
    """Workers of a cluster end, again and again, before their work does."""


class MissingExtraError(SelectkitError, ImportError):
    """An optional part of selectkit is not installed."""

    @classmethod
    def of(cls, what: str, extra: str) -> "MissingExtraError":
        """Return an error that says how to install it.

        Args:
            what: What needs it, as the subject of a sentence.
            extra: Name of the extra.

        Returns:
            The error.
        """
        return cls(f'{what} needs an optional part: pip install "selectkit[{extra}]"')
