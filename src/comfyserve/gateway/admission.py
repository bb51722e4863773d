"""Whether a deployment takes new work from a caller: the same question at every door."""

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import NotReady
from comfyserve.gateway.auth import Principal
from comfyserve.gateway.context import Gateway


async def admit(gateway: Gateway, deployment: Deployment, principal: Principal) -> None:
    """Raise NotReady for a stopped deployment, BudgetSpent where the month's cap is reached."""
    if deployment.state is not DeploymentState.ACTIVE:
        raise NotReady(
            f"deployment '{deployment.name}' is stopped; start it with "
            f"`comfyserve start {deployment.name}`",
            code="deployment_stopped",
        )
    await gateway.budgets.check(deployment.id, deployment.name, principal.name)
