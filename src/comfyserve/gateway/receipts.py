"""A job's receipt as response headers, for clients and proxies that read no bodies."""

from collections.abc import Mapping

from comfyserve.domain.usage import Receipt

RECEIPT_HEADER = "X-Comfyserve-Receipt"
_STAGES = ("queued", "wake", "load", "execute", "total")


def receipt_headers(receipt: Receipt | None) -> Mapping[str, str]:
    """The receipt as a dictionary of structured fields, and as `Server-Timing`; none before the end."""
    if receipt is None:
        return {}
    times = {stage: getattr(receipt, f"{stage}_ms") for stage in _STAGES}
    fields = [
        *(f"{stage}_ms={milliseconds}" for stage, milliseconds in times.items()),
        f"billed_ms={receipt.billed_ms}",
        f"attempts={receipt.attempts}",
        f'gpu="{receipt.gpu or "cpu"}"',
        f"cost={receipt.cost:.9f}",
    ]
    timing = ", ".join(f"{stage};dur={milliseconds}" for stage, milliseconds in times.items())
    return {RECEIPT_HEADER: ", ".join(fields), "Server-Timing": timing}
