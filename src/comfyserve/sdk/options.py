"""What every declaration takes besides its own arguments, checked and made part of a spec. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, VolumeMount
from comfyserve.sdk.amounts import read_count, read_cpu, read_gpu, read_memory, read_seconds
from comfyserve.sdk.secret import Secret
from comfyserve.sdk.volume import Volume


class Options(TypedDict, total=False):
    """Keyword arguments that `Pod` and `asgi` share; what is left out is the server's to choose."""

    cpu: float | str
    memory: int | str
    gpu: str | None
    gpu_count: int
    keep_warm_seconds: float
    min_replicas: int
    max_replicas: int
    timeout: float
    start_timeout: float
    queue_timeout: float
    max_queue: int
    volumes: Sequence[Volume]
    secrets: Sequence[str | Secret]
    env: Mapping[str, str]
    authorized: bool
    port: int
    ready_path: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The options, read: a spec without its engine, and what goes into the engine."""

    spec: DeploymentSpec = field(default_factory=DeploymentSpec)
    env: Mapping[str, str] = field(default_factory=dict)
    ready_path: str | None = None


def read_options(owner: str, own: Sequence[str], options: Options) -> Surroundings:
    """Check the options of `owner`, whose own keywords are `own`. Raises InvalidInput.

    An unknown one is refused with the name that was probably meant.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise _unknown(owner, name, [*own, *Options.__annotations__])
    spec = DeploymentSpec()
    spec = replace(
        spec,
        resources=replace(
            spec.resources,
            gpu=read_gpu(gpu) if (gpu := options.get("gpu")) else None,
            gpus=_count_of(options),
            cpu=None if (cpu := options.get("cpu")) is None else read_cpu(cpu),
            memory_bytes=None if (memory := options.get("memory")) is None else read_memory(memory),
        ),
        scaling=replace(
            spec.scaling,
            min_replicas=options.get("min_replicas", spec.scaling.min_replicas),
            max_replicas=options.get(
                "max_replicas", max(spec.scaling.max_replicas, options.get("min_replicas", 0))
            ),
            idle_timeout_s=_idle_timeout(options, spec.scaling.idle_timeout_s),
        ),
        timeouts=replace(
            spec.timeouts,
            job_s=options.get("timeout", spec.timeouts.job_s),
            start_s=options.get("start_timeout", spec.timeouts.start_s),
            queue_s=options.get("queue_timeout", spec.timeouts.queue_s),
        ),
        limits=replace(spec.limits, max_queue=options.get("max_queue", spec.limits.max_queue)),
        port=options.get("port"),
        volumes=tuple(VolumeMount(v.name, v.mount_path) for v in _volumes(options)),
        secrets=_secrets(options),
        authorized=options.get("authorized", True),
    )
    return Surroundings(spec, _env(options), options.get("ready_path"))


def _count_of(options: Options) -> int | None:
    """How many GPUs: what is said, else one for a type; None leaves it to the server."""
    if "gpu_count" not in options:
        return 1 if options.get("gpu") else None
    count = read_count("gpu_count", options["gpu_count"], least=0)
    if count == 0 and options.get("gpu"):
        raise InvalidInput(
            f"gpu={options['gpu']!r} with gpu_count=0 says two things: leave one out"
        )
    return count


def _idle_timeout(options: Options, default: float) -> float:
    try:
        return read_seconds("keep_warm_seconds", options.get("keep_warm_seconds", default))
    except InvalidInput as error:
        raise InvalidInput(
            f"{error}; to keep a replica awake for good, say min_replicas=1",
            code="invalid_keep_warm",
        ) from None


def _volumes(options: Options) -> Sequence[Volume]:
    volumes = options.get("volumes", ())
    for volume in volumes:
        if not isinstance(volume, Volume):
            raise InvalidInput(
                f'volumes takes values such as Volume("weights", "./models"), not {volume!r}'
            )
    return volumes


def _secrets(options: Options) -> tuple[str, ...]:
    secrets = options.get("secrets", ())
    if isinstance(secrets, str):
        raise InvalidInput(f"secrets is a list of names: write secrets=[{secrets!r}]")
    names = []
    for secret in secrets:
        if not isinstance(secret, str | Secret):
            raise InvalidInput(f"secrets takes names, not {secret!r}")
        names.append(secret.name if isinstance(secret, Secret) else secret)
    return tuple(names)


def _env(options: Options) -> Mapping[str, str]:
    env: object = options.get("env", {})
    if not isinstance(env, Mapping):
        raise InvalidInput(f'env is a mapping, such as {{"MODE": "fast"}}, not {env!r}')
    for name, value in env.items():
        if not isinstance(value, str):
            raise InvalidInput(f"env {name!r} must be a text, not {value!r}")
    return {str(name): value for name, value in env.items()}


def _unknown(owner: str, name: str, known: Sequence[str]) -> InvalidInput:
    from comfyserve.workflow.nearest import Nearest

    nearest = Nearest().of(name, known, most=1)
    meant = f"; did you mean '{nearest[0]}'?" if nearest else f"; there is: {', '.join(known)}"
    return InvalidInput(f"{owner} has no argument '{name}'{meant}", code="unknown_argument")
