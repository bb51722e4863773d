"""Measures comfyserve beside the engine itself, side by side in one run."""
