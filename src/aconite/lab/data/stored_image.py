"""An image in a row of a data set, which opens as the file of an image does."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath
from typing import IO, Any

__all__ = ["ImageFile", "StoredImage"]


class StoredImage(PurePosixPath):
    """Where an image stands, ``hf:NAME/SPLIT/ROW``, for messages; and how to come by its bytes.

    Attributes:
        rows: of one column, {"bytes": the image's file or None, "path": where it lies otherwise}.
    """

    rows: Any

    @classmethod
    def of(cls, rows: Any, place: PurePosixPath, row: int) -> StoredImage:
        """The image in a row of the rows at a place."""
        path = cls(place, str(row))
        path.rows = rows
        return path

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Its file, to read; ValueError if the row is empty."""
        (held,) = self.rows[int(self.name)].values()
        if not held or (held["bytes"] is None and held["path"] is None):
            raise ValueError("the row has no image")
        return io.BytesIO(held["bytes"]) if held["bytes"] is not None else Path(held["path"]).open("rb")

    def __reduce__(self) -> Any:  # a path's own would lose the rows on the way to another process
        return StoredImage.of, (self.rows, PurePosixPath(self.parent), int(self.name))


ImageFile = Path | StoredImage
