"""From a document of thresholds to the policy that wrote it."""

from collections.abc import Mapping
from typing import Any

from selectkit.errors import ArtifactError
from selectkit.policies.per_class import ClasswisePolicy
from selectkit.policies.scores import OwnScore
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.two_sided import TwoSidedPolicy


def thresholds_policy(
    document: Mapping[str, Any], own: OwnScore | None = None
) -> SoftmaxPolicy | TwoSidedPolicy | ClasswisePolicy:
    """Rebuild the policy of a `thresholds.json`.

    Args:
        document: Its fields; `form` names the policy, and without one it is a single threshold.
        own: The score, when it has numbers of its own; they are stored beside the policy.

    Returns:
        The policy.

    Raises:
        ArtifactError: If the form is unknown to this release, or the document is malformed.
    """
    match document.get("form", "single"):
        case "single":
            return SoftmaxPolicy.from_dict(document, own)
        case TwoSidedPolicy.form:
            return TwoSidedPolicy.from_dict(document, own)
        case ClasswisePolicy.form:
            return ClasswisePolicy.from_dict(document, own)
        case other:
            raise ArtifactError(
                f"thresholds of the form {other!r} are unknown to this release; "
                "known: single, two_sided, per_class."
            )
