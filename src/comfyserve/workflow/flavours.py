"""Which frontend is followed: the flavours and the rules in which they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Flavour(StrEnum):
    """A generation of ComfyUI's frontend."""

    NEW = "1.49"
    """Subgraphs with promoted widgets; measured against frontend 1.49.6."""
    OLD = "1.27"
    """What ComfyUI 0.3.x ships; measured against frontend 1.27.10."""


@dataclass(frozen=True, slots=True)
class FrontendRules:
    """What the frontend of a flavour does. Each field is one observed difference."""

    renumbers_subgraph_nodes: bool
    """Node ids inside subgraphs that are used elsewhere are replaced on load."""
    migrates_proxy_widgets: bool
    """`properties.proxyWidgets` of a subgraph instance is understood."""
    converts_group_nodes: bool
    """Legacy group nodes become subgraphs on load; otherwise they are expanded in place."""
    muted_blocks: bool
    """A link from a muted node is followed no further; otherwise it ends at the muted node's id."""
    inactive_instance_hides_nodes: bool
    """A muted or bypassed subgraph instance of the root graph leaves out its inner nodes."""
    fills_empty_combos: bool
    """A combo without a value gets its first choice on load."""
    matches_types: bool
    """Slots of `COMFY_MATCHTYPE_V3` take the type of what is connected to them."""
    has_dynamic_inputs: bool
    """Dynamic combos and growing inputs are widgets and sockets of their own."""
    seed_name_doubles_saved_value: bool
    """The repair of old files counts two values for an input named `seed` or `noise_seed`."""
    multiline_is_text: bool
    """A multiline text box turns whatever it is given into text."""
    renames_old_types: bool
    """Three node types of 2023 are renamed on load."""
    audio_player_in_prompt: bool
    """The player of the audio nodes is written into the prompt."""
    text_preview_in_prompt: bool
    """The preview of `PreviewAny` is written into the prompt."""
    cleans_upload_values: bool
    """Values of upload combos are repaired: empty ones, lists and folders without annotation."""
    loses_named_values: bool
    """`widgets_values` written as an object leave widgets without a value; otherwise with their default."""
    shares_promoted_text: bool
    """Promoted multiline texts of all instances of a subgraph are one text box: the last one wins."""
    sorts_definitions: bool
    """Definitions are loaded from the inside out; otherwise as the file lists them."""
    keeps_extra_instance_inputs: bool
    """Saved inputs of an instance that its definition lacks stay behind the others."""
    spreads_promoted: bool
    """Values of promoted widgets are written into the widgets inside, those of the last instance stay."""
    repairs_links: bool
    """Both ends of the links in the root graph are made to agree before it is loaded."""
    primitives_use_root_links: bool
    """Primitives inside subgraphs look for their links by id in the root graph first."""
    reroutes_by_record: bool
    """A reroute goes on at the input that the record of its link names, not at its own.

    The two differ where several inputs claim one link.
    """
    binds_promoted_by_slot_index: bool
    """Promoted widgets are found by the saved slot index of the link instead of by the link's id."""


RULES: Final[Mapping[Flavour, FrontendRules]] = {
    Flavour.NEW: FrontendRules(
        renumbers_subgraph_nodes=True,
        migrates_proxy_widgets=True,
        converts_group_nodes=True,
        muted_blocks=True,
        inactive_instance_hides_nodes=True,
        fills_empty_combos=True,
        matches_types=True,
        has_dynamic_inputs=True,
        seed_name_doubles_saved_value=False,
        multiline_is_text=False,
        renames_old_types=False,
        audio_player_in_prompt=False,
        text_preview_in_prompt=False,
        cleans_upload_values=False,
        loses_named_values=True,
        shares_promoted_text=False,
        sorts_definitions=True,
        keeps_extra_instance_inputs=False,
        spreads_promoted=False,
        repairs_links=False,
        primitives_use_root_links=False,
        reroutes_by_record=True,
        binds_promoted_by_slot_index=False,
    ),
    Flavour.OLD: FrontendRules(
        renumbers_subgraph_nodes=False,
        migrates_proxy_widgets=False,
        converts_group_nodes=False,
        muted_blocks=False,
        inactive_instance_hides_nodes=False,
        fills_empty_combos=False,
        matches_types=False,
        has_dynamic_inputs=False,
        seed_name_doubles_saved_value=True,
        multiline_is_text=True,
        renames_old_types=True,
        audio_player_in_prompt=True,
        text_preview_in_prompt=True,
        cleans_upload_values=True,
        loses_named_values=False,
        shares_promoted_text=True,
        sorts_definitions=False,
        keeps_extra_instance_inputs=True,
        spreads_promoted=True,
        repairs_links=True,
        primitives_use_root_links=True,
        reroutes_by_record=False,
        binds_promoted_by_slot_index=True,
    ),
}
