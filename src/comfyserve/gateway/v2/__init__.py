"""Comfy API v2: the ecosystem's own contract, over the same jobs and assets as the other doors."""
