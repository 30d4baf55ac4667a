"""What file system a directory is on."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class FileSystem:
    """As the kernel lists what is mounted."""

    kind: str
    source: str
    options: str

    @classmethod
    def of(cls, directory, mounts=None):
        """The one that holds this directory; `mounts` is the text of /proc/self/mountinfo."""
        if mounts is None:
            mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        path = pathlib.Path(directory).resolve()
        deepest, found = -1, None
        for line in mounts.splitlines():
            before, _, after = line.partition(" - ")
            _, _, _, _, point, options, *_ = before.split(" ")
            kind, source, *_ = after.split(" ")
            # Blanks and the like are written in octal.
            point = pathlib.Path(point.encode().decode("unicode_escape").encode("latin-1").decode())
            # What is mounted later at the same place lies above.
            if path.is_relative_to(point) and len(point.parts) >= deepest:
                deepest, found = len(point.parts), cls(kind, source, options)
        return found

    @property
    def in_memory(self):
        """Nothing there is ever written to a disk."""
        return self.kind in ("tmpfs", "ramfs", "rootfs")

    def __str__(self):
        return f"{self.kind} ({self.source}, {self.options})"
