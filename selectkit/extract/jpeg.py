"""JPEG through libjpeg-turbo, with its warnings taken as what they are: damage.

Pillow decodes a JPEG with the same library, a fifth slower, and without a word when the library
warns that the picture's data do not fit: the rest of the picture is then garbage. Here such a file
is refused. JPEG has no checksum, so what decodes to a picture of the right size passes.
"""

import numpy as np
import numpy.typing as npt

SPACES = frozenset({"YCbCr", "Gray", "RGB"})  # the others need Pillow's conversion to RGB


class DamagedJpegError(ValueError):
    """A JPEG whose picture is not whole.

    Attributes:
        truncated: Whether the file ends early, otherwise bytes of the picture are wrong.
    """

    def __init__(self, detail: str, *, truncated: bool) -> None:
        """Say what the library said."""
        super().__init__(detail)
        self.truncated = truncated


def jpeg_pixels(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG, all of it, without regard to its orientation.

    Args:
        data: The file's bytes.

    Returns:
        Shape (height, width, 3), RGB; None when this reader does not take the file (CMYK, 12 bits,
        an odd header), which says nothing about whether another one does.

    Raises:
        DamagedJpegError: If the file ends early or its scan is damaged.
    """
    import simplejpeg

    try:
        if simplejpeg.decode_jpeg_header(data)[2] not in SPACES:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
        return pixels
    except ValueError as error:
        text = str(error)
    # Of libjpeg's warnings only these concern the picture; jerror.h has them all.
    truncated = "Premature end" in text
    if truncated or ("Corrupt JPEG data" in text and "ICC" not in text):
        raise DamagedJpegError(text, truncated=truncated)
    return None
