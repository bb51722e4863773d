"""`Secret`: the name of a value that the server keeps sealed."""

from dataclasses import dataclass

from comfyserve.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by its name, which is also the environment variable that it becomes.

    Example: `Pod(..., secrets=[Secret("HF_TOKEN")])`, or just `secrets=["HF_TOKEN"]`. Its value is
    given to the server alone, with `comfyserve secret`.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput('a secret needs a name: Secret("HF_TOKEN")')
