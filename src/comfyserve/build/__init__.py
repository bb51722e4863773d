"""The embedded builder: from an image spec to an environment on disk."""
