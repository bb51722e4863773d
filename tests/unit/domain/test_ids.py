"""Ids: readable, as random as what they are made of."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.ids import (
    ENTROPY_BYTES,
    UUID_ENTROPY_BYTES,
    Prefix,
    is_canonical_uuid,
    make_id,
    make_uuid,
)

ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


@given(st.sampled_from(Prefix), ENTROPY)
def test_an_id_names_its_noun(prefix: Prefix, entropy: bytes) -> None:
    made = make_id(prefix, entropy)
    assert re.fullmatch(rf"{prefix}_[a-z2-7]{{20}}", made)
    assert make_id(prefix, entropy) == made


@given(ENTROPY, ENTROPY)
def test_ids_differ_where_their_entropy_does(one: bytes, other: bytes) -> None:
    def of(entropy: bytes) -> int:
        return int.from_bytes(entropy) % 32**20

    same_id = make_id(Prefix.REPLICA, one) == make_id(Prefix.REPLICA, other)
    assert same_id == (of(one) == of(other))


def test_too_little_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match="13 bytes"):
        make_id(Prefix.REPLICA, b"x" * (ENTROPY_BYTES - 1))


_TIMES = st.floats(0, 2**47 / 1000)
_RANDOM = st.binary(min_size=UUID_ENTROPY_BYTES, max_size=UUID_ENTROPY_BYTES)


@given(_TIMES, _RANDOM)
def test_a_made_uuid_is_one_of_version_7(now: float, entropy: bytes) -> None:
    made = make_uuid(now, entropy)
    assert is_canonical_uuid(made)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert uuid.UUID(made).int >> 80 == int(now * 1000)


@given(_TIMES, _TIMES, _RANDOM, _RANDOM)
def test_uuids_sort_by_their_time(one: float, other: float, first: bytes, second: bytes) -> None:
    if int(one * 1000) < int(other * 1000):
        assert make_uuid(one, first) < make_uuid(other, second)


@given(st.uuids())
def test_a_uuid_is_canonical_in_one_spelling_only(value: uuid.UUID) -> None:
    text = str(value)
    assert is_canonical_uuid(text)
    assert is_canonical_uuid(text.upper()) == (text.upper() == text)
    others = (value.hex, f"{{{text}}}", f"urn:uuid:{text}", f" {text}", f"{text}\n")
    assert not any(map(is_canonical_uuid, others))


@given(st.text(max_size=40))
def test_other_text_is_no_uuid(text: str) -> None:
    assert is_canonical_uuid(text) == bool(
        re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    )
