"""The camera of the 3D viewers, which the editor writes into the prompt.

A saved view comes back as it was saved; without one the viewer looks from where it starts. The editor
computes both again, so the last digits of a number can differ (they do between two browsers, too).
Facts: `CameraManager.ts` of ComfyUI's frontend and `Matrix4.lookAt` of three.js.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

_START: Final = {"x": 10, "y": 10, "z": 10.000000000000002}
_CENTRE: Final = {"x": 0, "y": 0, "z": 0}
_FOV: Final = 35


def camera_info(properties: Mapping[str, Any], width: object, height: object) -> dict[str, Any]:
    """Return the camera of a viewer of that size, from the node's properties."""
    config = properties.get("Camera Config")
    config = config if isinstance(config, Mapping) else {}
    state = config.get("state")
    state = state if isinstance(state, Mapping) else {}
    position = _vector(state.get("position"), _START)
    target = _vector(state.get("target"), _CENTRE)
    turn = state.get("quaternion")
    fov = config.get("fov")
    return {
        "position": position,
        "target": target,
        "zoom": state.get("zoom", 1),
        "cameraType": config.get("cameraType", "perspective"),
        "quaternion": dict(turn) if isinstance(turn, Mapping) else look_at(position, target),
        "fov": fov if isinstance(fov, (int, float)) else _FOV,
        "aspect": _ratio(width, height),
        "near": 0.01,
        "far": 10000,
        "frustum": {"left": -5, "right": 5, "top": 5, "bottom": -5},
    }


def viewport_state(properties: Mapping[str, Any], width: object, height: object) -> dict[str, Any]:
    """Return what a preview of a 3D model sends beside the model."""
    return {
        "image": "",
        "mask": "",
        "normal": "",
        "camera_info": camera_info(properties, width, height),
        "recording": "",
        "model_3d_info": [],
    }


def look_at(eye: Mapping[str, float], target: Mapping[str, float]) -> dict[str, float]:
    """Return the turn of a camera, upright, that looks from one point to another, as a quaternion."""
    z = _unit([eye[axis] - target[axis] for axis in "xyz"])
    if z is None:
        return {"x": 0, "y": 0, "z": 0, "w": 1}
    x = _unit([z[2], 0.0, -z[0]]) or [1.0, 0.0, 0.0]
    y = [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]]
    trace = x[0] + y[1] + z[2]
    if trace > 0:
        s = 0.5 / math.sqrt(trace + 1.0)
        turn = ((y[2] - z[1]) * s, (z[0] - x[2]) * s, (x[1] - y[0]) * s, 0.25 / s)
    elif x[0] > y[1] and x[0] > z[2]:
        s = 2.0 * math.sqrt(1.0 + x[0] - y[1] - z[2])
        turn = (0.25 * s, (y[0] + x[1]) / s, (z[0] + x[2]) / s, (y[2] - z[1]) / s)
    elif y[1] > z[2]:
        s = 2.0 * math.sqrt(1.0 + y[1] - x[0] - z[2])
        turn = ((y[0] + x[1]) / s, 0.25 * s, (z[1] + y[2]) / s, (z[0] - x[2]) / s)
    else:
        s = 2.0 * math.sqrt(1.0 + z[2] - x[0] - y[1])
        turn = ((z[0] + x[2]) / s, (z[1] + y[2]) / s, 0.25 * s, (x[1] - y[0]) / s)
    return dict(zip("xyzw", turn, strict=True))


def _unit(vector: list[float]) -> list[float] | None:
    length = math.sqrt(sum(part * part for part in vector))
    if not math.isfinite(length) or length < 1e-12:
        return None
    return [part * (1 / length) for part in vector]


def _vector(value: object, default: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(value, Mapping) or not all(_is_number(value.get(axis)) for axis in "xyz"):
        return dict(default)
    return {axis: value[axis] for axis in "xyz"}


def _ratio(width: object, height: object) -> float | None:
    if not (_is_number(width) and _is_number(height) and height):
        return None
    ratio = width / height
    return 1 if ratio == 1 else ratio


def _is_number(value: object) -> TypeGuard[float]:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e12  # also false for NaN
    )
