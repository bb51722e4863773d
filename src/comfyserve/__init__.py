"""ComfyUI as an HTTPS API on GPUs that you own or rent, awake only while there is work."""

__version__ = "0.1.0"
