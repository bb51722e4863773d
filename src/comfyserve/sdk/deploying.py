"""From a declared application to a deployment: upload the code, build the image, deploy."""

from comfyserve.domain.spec import check_name
from comfyserve.sdk.app import App
from comfyserve.sdk.building import built
from comfyserve.sdk.client import Client, connect
from comfyserve.sdk.pod import PodInstance
from comfyserve.sdk.source import Source
from comfyserve.sdk.talk import say


def deploy_app(
    app: App, source: Source, name: str | None = None, client: Client | None = None
) -> PodInstance:
    """Deploy an application under its own name, or another.

    Raises InvalidInput, and ServerFailed with the end of the log if it does not start.
    """
    chosen = check_name(name or app.name)
    archive = source.archive()
    client = client or connect()
    image = built(client, app.image)
    digest = client.upload_source(archive)
    say(f"starting {chosen} once, to see that it serves")
    deployed = client.deploy(chosen, app.spec(digest, source.handler, image))
    for warning in deployed.warnings:
        say(f"warning: {warning}")
    return PodInstance(deployed.name, deployed.url, deployed.revision, client)
