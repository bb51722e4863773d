"""Files that inputs name: which inputs do, which files they offer, whether a name exists."""

import posixpath
from collections.abc import Collection

from comfyserve.workflow.specs import InputSpec

_UPLOADS = {
    "image_upload": "image",
    "animated_image_upload": "image",
    "video_upload": "video",
    "audio_upload": "audio",
    "file_upload": "model",
}
_MESHES = (".gltf", ".glb", ".obj", ".fbx", ".stl")
_ANIMATED = (".gltf", ".glb", ".fbx")
_SPLATS = (".spz", ".splat", ".ply", ".ksplat")
_ENDINGS = {
    "image": (
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ico"),
        *(".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".jpe"),
    ),
    "video": (
        *(".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".mpe", ".m1v"),
        *(".ogv", ".wmv", ".qt", ".3gp", ".flv"),
    ),
    "audio": (
        *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".aifc"),
        *(".mp2", ".au", ".snd", ".wma"),
    ),
}
# ComfyUI cuts the annotation off by its length, whatever stands before the bracket.
_ANNOTATIONS = {"[output]": 9, "[input]": 8, "[temp]": 7}


def upload_kind(spec: InputSpec) -> str | None:
    """Return what kind of file (`image`, `video`, `audio`, `model`) this combo loads, if it loads one."""
    if spec.type != "COMBO":
        return None
    return next((kind for flag, kind in _UPLOADS.items() if spec.options.get(flag)), None)


def offered_files(class_name: str, spec: InputSpec, files: Collection[str]) -> tuple[str, ...]:
    """Return those of the files that ComfyUI would list for this input of that class."""
    kind = upload_kind(spec)
    if kind == "model":
        endings = _model_endings(class_name, is_newer=not spec.is_listed)
        listed = sorted(
            name for name in files if name.startswith("3d/") and name.lower().endswith(endings)
        )
        return ("none", *listed) if "none" in (spec.choices or ()) else tuple(listed)
    folder = spec.options.get("image_folder", "input")
    suffix = "" if folder == "input" else f" [{folder}]"
    return tuple(
        sorted(
            name
            for name in files
            if "/" not in name
            and name.endswith(suffix)
            and name.removesuffix(suffix).lower().endswith(_ENDINGS.get(kind or "image", ()))
        )
    )


def _model_endings(class_name: str, *, is_newer: bool) -> tuple[str, ...]:
    if class_name == "Load3DAnimation":
        return _ANIMATED
    return _MESHES + _SPLATS if is_newer else _MESHES


def split_annotation(name: str) -> tuple[str, str]:
    """Return path and directory (`input`, `output`, `temp`) of an annotated name."""
    for annotation, length in _ANNOTATIONS.items():
        if name.endswith(annotation):
            return name[:-length], annotation[1:-1]
    return name, "input"


def exists(name: str, files: Collection[str]) -> bool:
    """Whether ComfyUI would find that file; a directory that holds one counts, as it does there.

    Names that leave the directories are not found: ComfyUI would look, we do not.
    """
    path, directory = split_annotation(name)
    suffix = "" if directory == "input" else f" [{directory}]"
    if path.startswith("/") or "\0" in path:
        return False
    is_file_name = not path.endswith("/")
    path = posixpath.normpath(path) if path else "."
    if path == "." or (is_file_name and f"{path}{suffix}" in files):
        return True
    return any(
        file.startswith(f"{path}/") and split_annotation(file)[1] == directory for file in files
    )
