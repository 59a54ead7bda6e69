"""Training curves for TensorBoard, an optional part."""

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from selectkit.errors import MissingExtraError
from selectkit.heads.training.recipe import Epoch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes one scalar per epoch and quantity, under `<folder>/<name>`."""

    def __init__(self, folder: Path) -> None:
        """Find the library; files are made when there is something to write.

        Args:
            folder: Where the logs go.

        Raises:
            MissingExtraError: If TensorBoard is not installed.
        """
        if find_spec("tensorboard") is None:
            raise MissingExtraError.of("--tensorboard", "tensorboard")
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def add(self, name: str, epoch: Epoch) -> None:
        """Write what one epoch gave.

        Args:
            name: Name of the training, a folder.
            epoch: The epoch.
        """
        from torch.utils.tensorboard import SummaryWriter

        if name not in self._writers:
            # What a run that was killed had written of this epoch and later ones is withdrawn.
            self._writers[name] = SummaryWriter(str(self._folder / name), purge_step=epoch.epoch)
        values = {"train_loss": epoch.train_loss, "learning_rate": epoch.learning_rate}
        if epoch.criterion is not None:
            values["criterion"] = epoch.criterion
        for what, value in {**values, **epoch.parts}.items():
            self._writers[name].add_scalar(what, value, epoch.epoch)
