"""What can be an endpoint: strict, all reasons at once, and lacking only what may be lacking."""

from typing import Any

from tests.unit.workflow.catalogs import entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.interface import interface, to_json
from comfyserve.workflow.prepare import prepare
from comfyserve.workflow.problems import Code
from comfyserve.workflow.publish import Publication, publication

UPLOAD = [["here.png"], {"image_upload": True}]
CATALOG = NodeCatalog.from_object_info(
    {
        "LoadImage": entry({"image": UPLOAD}, output=["IMAGE"]),
        "UpscaleModelLoader": entry({"model_name": [["there.pth"]]}, output=["UPSCALE_MODEL"]),
        "Upscale": entry(
            {"upscale_model": ["UPSCALE_MODEL"], "image": ["IMAGE"], "steps": ["INT", {"max": 9}]},
            output=["IMAGE"],
        ),
        "SaveImage": entry({"images": ["IMAGE"], "filename_prefix": ["STRING"]}, is_output=True),
    },
    version="0.3.64",
).with_input_files({"here.png"})


def prompt(*, image: str = "here.png", model: str = "there.pth", steps: int = 2) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": model}},
        "3": {
            "class_type": "Upscale",
            "inputs": {"upscale_model": ["2", 0], "image": ["1", 0], "steps": steps},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }


def judged(body: Any, given: Any = None, *, allow_missing: bool = False) -> Publication:
    return publication(prepare(body, CATALOG), CATALOG, given, allow_missing=allow_missing)


def codes(found: Publication) -> list[Code]:
    return [problem.code for problem in found.problems]


def test_what_runs_can_be_published_with_its_inferred_interface() -> None:
    found = judged(prompt())
    assert found.problems == found.warnings == ()
    assert {each.name for each in found.interface.inputs} >= {"image", "steps"}
    assert [each.node_id for each in found.interface.outputs] == ["4"]


def test_an_absent_picture_that_callers_give_is_no_fault_but_then_required() -> None:
    found = judged(prompt(image="absent.png"))
    assert codes(found) == []
    image = found.interface.input("image")
    assert image is not None
    assert (image.is_required, image.default) == (True, None)


def test_it_is_required_also_where_a_given_interface_says_otherwise() -> None:
    given = to_json(interface(prompt(), CATALOG))
    found = judged(prompt(image="absent.png"), given)
    image = found.interface.input("image")
    assert codes(found) == []
    assert image is not None
    assert image.is_required


def test_an_absent_picture_that_nobody_can_give_is_refused() -> None:
    given = to_json(interface(prompt(), CATALOG))
    given["inputs"] = [each for each in given["inputs"] if each["name"] != "image"]
    found = judged(prompt(image="absent.png"), given)
    assert [problem.node_id for problem in found.problems] == ["1"]


def test_a_missing_model_is_refused_unless_it_may_come_later() -> None:
    assert codes(judged(prompt(model="absent.pth"))) == [Code.VALUE_NOT_IN_LIST]
    found = judged(prompt(model="absent.pth"), allow_missing=True)
    assert found.problems == ()
    assert [problem.code for problem in found.warnings] == [Code.VALUE_NOT_IN_LIST]


def test_all_reasons_are_told_at_once_and_missing_models_excuse_nothing_else() -> None:
    found = judged(prompt(model="absent.pth", steps=99), allow_missing=True)
    assert codes(found) == [Code.VALUE_BIGGER_THAN_MAX]
    strict = judged(prompt(model="absent.pth", steps=99))
    assert set(codes(strict)) == {Code.VALUE_BIGGER_THAN_MAX, Code.VALUE_NOT_IN_LIST}


def test_one_output_that_cannot_run_refuses_the_whole() -> None:
    body = {**prompt(), "5": {"class_type": "SaveImage", "inputs": {"filename_prefix": "y"}}}
    assert codes(judged(body)) == [Code.REQUIRED_INPUT_MISSING]


def test_what_is_no_workflow_and_an_interface_of_another_one_say_so() -> None:
    assert codes(judged([1])) == [Code.NOT_A_WORKFLOW]
    given = to_json(interface(prompt(), CATALOG))
    given["inputs"][0]["sets"] = [{"node": "99", "input": "image"}]
    given["outputs"][0]["node"] = "1"
    assert codes(judged(prompt(), given)) == [Code.PLACE_GONE, Code.PLACE_GONE]
    assert codes(judged(prompt(), {"inputs": []})) == [Code.INTERFACE_UNREADABLE]


def test_an_interface_without_outputs_gets_those_of_the_workflow() -> None:
    given = {**to_json(interface(prompt(), CATALOG)), "outputs": []}
    assert [each.node_id for each in judged(prompt(), given).interface.outputs] == ["4"]
