"""The score of a policy: one of `SCORES` by its name, or a fitted one with numbers of its own."""

from typing import Any

from selectkit.errors import ArtifactError, ConfigError
from selectkit.policies.scores import NAMES, SCORES, OwnScore, Score


def named(score: str | OwnScore) -> tuple[str, OwnScore | None]:
    """Return the name of a score, and the score itself when it has numbers of its own."""
    return (score, None) if isinstance(score, str) else (score.kind, score)


def score_function(name: str, own: OwnScore | None) -> Score:
    """Return the score by its name, or the one with numbers of its own.

    Raises:
        ConfigError: If the name is unknown, or its score has numbers of its own and is missing.
    """
    if own is not None:
        return own
    if name in SCORES:
        return SCORES[name]
    if name in NAMES:
        raise ConfigError(f"score {name!r} has numbers of its own: fit it, and pass the object.")
    raise ConfigError(f"score {name!r} is unknown; known: {', '.join(NAMES)}.")


def check_score(name: Any, own: OwnScore | None) -> None:
    """Refuse a score other than the one that a document names.

    Raises:
        ArtifactError: If the name is unknown, or the fitted score beside it is not the one.
    """
    if name not in NAMES:
        raise ArtifactError(f"score {name!r} is unknown; known: {', '.join(NAMES)}.")
    if (None if name in SCORES else name) != (None if own is None else own.kind):
        has = "none" if own is None else repr(own.kind)
        raise ArtifactError(
            f"the policy looks at the score {name!r}, and the fitted score beside it is {has}. "
            "Calibrate again."
        )
