"""Stored files in a workflow: resolved to assets, and laid where the engine looks for inputs."""

from collections.abc import Mapping
from typing import Any

from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.stored_inputs import BytesGone, find_asset, lay_down
from comfyserve.store.assets import Asset
from comfyserve.workflow.asset_references import (
    AssetReferences,
    find_asset_references,
    replace_asset_references,
)

_MOST_ASSETS = 256
_MOST_TOLD = 20


async def with_input_files(call: Call, workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    """The workflow with file names for its references; the files are there when this returns.

    Raises Refusal `missing_asset`, naming what is malformed, unknown or of another deployment.
    """
    catalog = call.target.snapshot.catalog
    wanted = find_asset_references(workflow, catalog)
    if not wanted:
        return workflow
    by_id, by_path = await _resolve(call, wanted)
    names: dict[str, str] = {}
    for asset in {asset.id: asset for asset in (*by_id.values(), *by_path.values())}.values():
        try:
            names[asset.id] = await lay_down(call, asset)
        except BytesGone:
            raise _missing([asset.id], None) from None
    return replace_asset_references(
        workflow,
        catalog,
        {asset_id: names[asset.id] for asset_id, asset in by_id.items()},
        {path: names[asset.id] for path, asset in by_path.items()},
    )


async def _resolve(
    call: Call, wanted: AssetReferences
) -> tuple[Mapping[str, Asset], Mapping[str, Asset]]:
    if len(wanted.ids) > _MOST_ASSETS:
        raise Refusal(
            422, "invalid_workflow", f"the workflow refers to more than {_MOST_ASSETS} assets"
        )
    store = call.gateway.store
    by_id = {asset_id: await find_asset(call, asset_id) for asset_id in sorted(wanted.ids)}
    found = {asset_id: asset for asset_id, asset in by_id.items() if asset is not None}
    if wanted.malformed or len(found) < len(by_id):
        raise _missing([key for key in by_id if key not in found], wanted)
    by_path = await store.references.by_file_paths(
        call.deployment_id, sorted(wanted.file_paths), call.now
    )
    return found, by_path


def _missing(ids: list[str], wanted: AssetReferences | None) -> Refusal:
    """Say what is missing, and where references are that say no id."""
    places = () if wanted is None else wanted.malformed[:_MOST_TOLD]
    parts = [f"there is no asset '{asset_id[:80]}'" for asset_id in ids[:3]]
    parts += [f"the reference at node {node}, input {name}, has no id" for node, name in places[:3]]
    return Refusal(
        422,
        "missing_asset",
        "; ".join(parts),
        {
            "missing_ids": ids[:_MOST_TOLD],
            "malformed": [{"node_id": node, "input": name} for node, name in places],
        },
    )
