"""What is installed, and whether torchvision can live with this torch.

timm cannot be imported without torchvision, and a torchvision built for another torch breaks timm,
transformers and peft alike, with messages that name none of them ("operator torchvision::nms does
not exist"). So the pair is checked before either library is imported.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from selectkit.errors import BackboneError

REINSTALL = "pip uninstall -y torch torchvision && pip install torch torchvision"


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def public_version(package: str) -> str:
    """Return the installed version without build tag ("2.13.0", not "2.13.0+cpu"), or "none"."""
    return (installed(package) or "none").split("+")[0]


def metadata_conflict(
    torch_version: str, torchvision_version: str, requirements: list[str]
) -> str | None:
    """Compare a torch with what an installed torchvision asks for.

    Args:
        torch_version: Version of torch, with its build tag if it has one.
        torchvision_version: Version of torchvision, likewise.
        requirements: The `Requires-Dist` lines of torchvision.

    Returns:
        What does not fit, or None.
    """
    from packaging.requirements import Requirement

    for line in requirements:
        wanted = Requirement(line)
        if wanted.name == "torch" and not wanted.specifier.contains(
            torch_version.split("+")[0], prereleases=True
        ):
            return (
                f"torchvision {torchvision_version} needs torch{wanted.specifier}, "
                f"but torch {torch_version} is installed"
            )
    ours, theirs = (v.partition("+")[2] for v in (torch_version, torchvision_version))
    if ours and theirs and ours != theirs:
        return f"torch is a {ours} build but torchvision a {theirs} build"
    return None


@cache
def torchvision_problem() -> str | None:
    """Say what is wrong with the installed torchvision.

    Returns:
        None when it imports and fits torch, or when it is not installed; else the problem, one
        line, without advice. The answer is kept for the process.
    """
    torch_version, torchvision_version = installed("torch"), installed("torchvision")
    if torch_version is None or torchvision_version is None:
        return None
    conflict = metadata_conflict(torch_version, torchvision_version, requires("torchvision") or [])
    return conflict or _import_problem(torch_version, torchvision_version)


def require_working_torchvision(*, needed_by: str | None = None) -> None:
    """Raise unless torch and torchvision can be imported together.

    Args:
        needed_by: A library that cannot do without torchvision; None when absence is fine.

    Raises:
        BackboneError: If they do not fit, or torchvision is needed and absent.
    """
    if installed("torch") is None:
        raise BackboneError("torch is not installed. Run: pip install torch torchvision")
    if needed_by is not None and installed("torchvision") is None:
        raise BackboneError(
            f"{needed_by} needs torchvision, which is not installed. Run: pip install torchvision"
        )
    problem = torchvision_problem()
    if problem is not None:
        raise BackboneError(
            f"{problem}; timm, transformers and peft cannot be imported. Run: {REINSTALL} "
            "(one command, one index, so that pip picks a matching pair)."
        )


def _import_problem(torch_version: str, torchvision_version: str) -> str | None:
    try:
        import torchvision  # noqa: F401  (the import itself is the check)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        return (
            f"torchvision {torchvision_version} does not load with torch {torch_version}: {reason}"
        )
    return None
