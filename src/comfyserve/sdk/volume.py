"""`Volume`: a named directory that is kept across replicas."""

from dataclasses import dataclass

from comfyserve.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Volume:
    """A named directory, made on demand, and where replicas see it.

    Example: `Pod(..., volumes=[Volume("weights", "./models")])`. A relative path is below the
    working directory of the replica.
    """

    name: str
    mount_path: str

    def __post_init__(self) -> None:
        if not self.name or not self.mount_path:
            raise InvalidInput('a volume needs a name and a path: Volume("weights", "./models")')
