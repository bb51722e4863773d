"""Small prompts, each with one image as its result: what ComfyUI made of them is in `tests/data/engine`."""

from collections.abc import Callable
from typing import Any

Link = list[Any]
Build = Callable[["Graph"], Link]
RESULT = "result"
"""The id of the node that saves the result."""


class Graph:
    """Builds a prompt node by node."""

    def __init__(self) -> None:
        self.prompt: dict[str, Any] = {}

    def add(self, class_type: str, **inputs: object) -> Link:
        """Add a node; return the link to its first output."""
        node_id = str(len(self.prompt) + 1)
        self.prompt[node_id] = {"class_type": class_type, "inputs": inputs}
        return [node_id, 0]

    def load(self, name: str) -> Link:
        """Load an image of `tests/data/engine/input`; its mask is the second output."""
        return self.add("LoadImage", image=name)

    def mask_of(self, image: Link) -> Link:
        """Return the link to the mask of a loaded image."""
        return [image[0], 1]

    def show(self, mask: Link) -> Link:
        """Make a mask visible."""
        return self.add("MaskToImage", mask=mask)


def build(name: str) -> dict[str, Any]:
    """Return the prompt of a case; its result is saved with the name as prefix."""
    graph = Graph()
    images = CASES[name](graph)
    graph.prompt[RESULT] = {
        "class_type": "SaveImage",
        "inputs": {"images": images, "filename_prefix": name},
    }
    return graph.prompt


def _resizes() -> dict[str, Build]:
    def scale(method: str, width: int, height: int, crop: str, name: str) -> Build:
        return lambda g: g.add(
            "ImageScale",
            image=g.load(name),
            upscale_method=method,
            width=width,
            height=height,
            crop=crop,
        )

    def scale_by(method: str, factor: float) -> Build:
        return lambda g: g.add(
            "ImageScaleBy", image=g.load("photo.png"), upscale_method=method, scale_by=factor
        )

    sizes = [
        (72, 60, "disabled", "photo.png"),
        (31, 29, "disabled", "photo.png"),
        (98, 36, "center", "photo.png"),
        (17, 50, "center", "flat.png"),
        (0, 25, "disabled", "photo.png"),
    ]
    cases: dict[str, Build] = {}
    for method in ("nearest-exact", "bilinear", "area", "bicubic", "lanczos"):
        for width, height, crop, name in sizes:
            case = f"scale-{method}-{width}x{height}-{crop}"
            cases[case] = scale(method, width, height, crop, name)
        cases[f"scale-by-{method}"] = scale_by(method, 1.37)
    cases["scale-nothing"] = scale("bicubic", 0, 0, "center", "photo.png")
    return cases


def _shapes() -> dict[str, Build]:
    def one(class_type: str, **inputs: object) -> Build:
        return lambda g: g.add(class_type, image=g.load("photo.png"), **inputs)

    def pad(feathering: int, **sides: int) -> Build:
        borders = {"left": 0, "top": 0, "right": 0, "bottom": 0, **sides}
        return lambda g: g.add(
            "ImagePadForOutpaint", image=g.load("photo.png"), feathering=feathering, **borders
        )

    def pad_mask(feathering: int, **sides: int) -> Build:
        def make(g: Graph) -> Link:
            return g.show([pad(feathering, **sides)(g)[0], 1])

        return make

    return {
        "crop": one("ImageCrop", width=20, height=10, x=7, y=5),
        "crop-over-the-edge": one("ImageCrop", width=500, height=500, x=30, y=9000),
        "flip-x": one("ImageFlip", flip_method="x-axis: vertically"),
        "flip-y": one("ImageFlip", flip_method="y-axis: horizontally"),
        "rotate-90": one("ImageRotate", rotation="90 degrees"),
        "rotate-180": one("ImageRotate", rotation="180 degrees"),
        "rotate-270": one("ImageRotate", rotation="270 degrees"),
        "pad": pad(5, left=8, bottom=16),
        "pad-mask": pad_mask(5, left=8, bottom=16),
        "pad-mask-all-sides": pad_mask(11, left=8, top=8, right=8, bottom=8),
        "pad-mask-too-wide": pad_mask(40, left=8),
        "batch": lambda g: g.add(
            "ImageBatch", image1=g.load("alpha.png"), image2=g.load("photo.png")
        ),
        "repeat": one("RepeatImageBatch", amount=2),
        "from-batch": lambda g: g.add(
            "ImageFromBatch", image=g.load("moving.gif"), batch_index=1, length=5
        ),
        "empty": lambda g: g.add("EmptyImage", width=9, height=7, batch_size=2, color=0x336699),
    }


def _filters() -> dict[str, Build]:
    def blend(mode: str, other: str, factor: float) -> Build:
        return lambda g: g.add(
            "ImageBlend",
            image1=g.load("photo.png"),
            image2=g.add("ImageFlip", image=g.load(other), flip_method="x-axis: vertically"),
            blend_factor=factor,
            blend_mode=mode,
        )

    def blur(name: str, radius: int, sigma: float) -> Build:
        return lambda g: g.add("ImageBlur", image=g.load(name), blur_radius=radius, sigma=sigma)

    def sharpen(name: str, radius: int, sigma: float, alpha: float) -> Build:
        return lambda g: g.add(
            "ImageSharpen", image=g.load(name), sharpen_radius=radius, sigma=sigma, alpha=alpha
        )

    def quantize(colors: int, dither: str) -> Build:
        return lambda g: g.add(
            "ImageQuantize", image=g.load("photo.png"), colors=colors, dither=dither
        )

    cases: dict[str, Build] = {"invert": lambda g: g.add("ImageInvert", image=g.load("photo.png"))}
    for mode in ("normal", "multiply", "screen", "overlay", "soft_light", "difference"):
        cases[f"blend-{mode}"] = blend(mode, "photo.png", 0.63)
    cases["blend-other-size"] = blend("normal", "alpha.png", 0.5)
    for name, radius, sigma in (
        ("photo.png", 1, 1.0),
        ("photo.png", 4, 0.5),
        ("photo.png", 13, 2.5),
        ("flat.png", 3, 1.0),
        ("flat.png", 9, 10.0),
    ):
        cases[f"blur-{name[:-4]}-{radius}-{sigma}"] = blur(name, radius, sigma)
    cases["sharpen-photo"] = sharpen("photo.png", 1, 1.0, 1.0)
    cases["sharpen-photo-strong"] = sharpen("photo.png", 6, 0.3, 4.5)
    cases["sharpen-flat"] = sharpen("flat.png", 2, 1.0, 0.7)
    for dither in ("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"):
        cases[f"quantize-{dither}"] = quantize(7, dither)
    return cases


def _masks() -> dict[str, Build]:
    def drawn(g: Graph) -> Link:
        return g.add("LoadImageMask", image="alpha.png", channel="alpha")

    def grown(expand: int, *, tapered: bool) -> Build:
        return lambda g: g.show(
            g.add("GrowMask", mask=drawn(g), expand=expand, tapered_corners=tapered)
        )

    def combined(operation: str) -> Build:
        return lambda g: g.show(
            g.add(
                "MaskComposite",
                destination=drawn(g),
                source=g.add("SolidMask", value=0.6, width=14, height=30),
                x=9,
                y=4,
                operation=operation,
            )
        )

    def composite(**inputs: object) -> Build:
        def make(g: Graph) -> Link:
            mask = {"mask": drawn(g)} if inputs.get("masked") else {}
            given: dict[str, object] = {"x": 0, "y": 0, "resize_source": False, **inputs}
            given.pop("masked", None)
            return g.add(
                "ImageCompositeMasked",
                destination=g.load("photo.png"),
                source=g.load("alpha.png"),
                **given,
                **mask,
            )

        return make

    cases: dict[str, Build] = {
        f"grow-{expand}-{tapered}": grown(expand, tapered=tapered)
        for expand in (3, -2)
        for tapered in (True, False)
    }
    for operation in ("multiply", "add", "subtract", "and", "or", "xor"):
        cases[f"combine-{operation}"] = combined(operation)
    cases["feather"] = lambda g: g.show(
        g.add("FeatherMask", mask=drawn(g), left=5, top=3, right=100, bottom=7)
    )
    cases["invert-mask"] = lambda g: g.show(g.add("InvertMask", mask=drawn(g)))
    cases["composite"] = composite(x=20, y=7)
    cases["composite-masked"] = composite(x=3, y=2, masked=True)
    cases["composite-resized"] = composite(x=12, y=0, masked=True, resize_source=True)
    cases["composite-outside"] = composite(x=9000, y=9000)
    for channel in ("red", "green", "blue"):
        cases[f"channel-{channel}"] = lambda g, channel=channel: g.show(  # type: ignore[misc] # a default binds it
            g.add("ImageToMask", image=g.load("photo.png"), channel=channel)
        )
    return cases


def _files() -> dict[str, Build]:
    def loaded(name: str) -> Build:
        return lambda g: g.load(name)

    def alpha(name: str) -> Build:
        return lambda g: g.show(g.mask_of(g.load(name)))

    def channel(name: str, which: str) -> Build:
        return lambda g: g.show(g.add("LoadImageMask", image=name, channel=which))

    names = ("alpha.png", "palette.png", "grey.png", "turned.jpg", "moving.gif")
    cases: dict[str, Build] = {f"load-{name}": loaded(name) for name in names}
    cases |= {f"mask-{name}": alpha(name) for name in ("alpha.png", "palette.png", "photo.png")}
    cases |= {f"load-mask-{each}": channel("alpha.png", each) for each in ("alpha", "red", "blue")}
    cases["load-mask-palette"] = channel("palette.png", "alpha")
    cases["load-mask-grey"] = channel("grey.png", "green")
    return cases


CASES: dict[str, Build] = {**_resizes(), **_shapes(), **_filters(), **_masks(), **_files()}
"""All cases by name."""
