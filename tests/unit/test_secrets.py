"""Secrets are masked by their shape, and what only looks like one stays."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.prepare.secrets import mask

KEY = "sk-" + "a1B2c3D4" * 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Phone: +1-902-555-0142", "phone"),
        ("for parcels +1 (902) 555-0187, ring twice", "phone"),
        ("(902) 555-0187", "phone"),
        ("902-555-0187", "phone"),
        ("bKash 01712-345678 please", "phone"),
        ("+8801712345678", "phone"),
        ("আমার ফোন ০১৭১২-৩৪৫৬৭৮", "phone"),
        ("0044 20 7946 0018", "phone"),
        ("mobile: 7946 0018", "phone"),
        ("katakuti@example.org", "mail"),
        ("write to accounts.katakuti+x@mail.example.org.", "mail"),
        (f"api_key = {KEY}", "key"),
        (KEY, "key"),
        ("ghp_" + "Ab3" * 12, "key"),
        ("AKIA" + "ABCD1234" * 2, "key"),
        ("password: hunter2!", "key"),
        ("pin: 4821", "key"),
        ("পাসওয়ার্ড: jhumi1988", "key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "key"),
        ("https://drive.example.org/d/1aB2cD3eF4gH5iJ6kL7mN8oP9qR0sT1uV2wX", "key"),
    ],
)
def test_a_secret_is_replaced_by_a_word_for_what_it_was(text, kind):
    masked, found = mask(text)
    assert found == {kind: 1}, masked
    assert "555" not in masked and "hunter2" not in masked and "345678" not in masked and "example.org." not in masked
    assert f"[{ {'phone': 'phone number', 'mail': 'mail address', 'key': 'key'}[kind] }]" in masked


@pytest.mark.parametrize(
    "text",
    [
        "I have 1,35,000 in the world, lent 30,000 on 2023-03-14 at 16:10.",
        "ISBN 978-0-306-40615-7, page 112",
        "tsh:: 14.2 (normal up to 4.5)",
        "The secret: nobody apologised.",
        "My password is a secret: the name of the cat.",
        "a token of love, 11111 of them",
        "May 03  16:10  Labonno; 07  15:50  courier",
        "5,000 in February, 7,000 on 9 April",
        "I called at nine, at one, at five and at eight",
        "@labonno and #reflection/work",
        "2012 2013 2014 2015 were dry years",
        "antidisestablishmentarianism-and-floccinaucinihilipilification",
    ],
)
def test_dates_sums_and_plain_words_stay(text):
    assert mask(text) == (text, {})


@given(st.text(max_size=300))
def test_masking_twice_changes_nothing_more(text):
    once, _ = mask(text)
    assert mask(once)[0] == once


@pytest.mark.parametrize(
    "piece", ["a", "1", "+1 ", "-----BEGIN PRIVATE KEY-----", "a@", "token: ", "eyJabcdefgh.", "(1"]
)
def test_a_long_line_of_one_kind_takes_no_ages(piece):
    """A pattern that tries every beginning against every end takes hours on a note with one pasted line."""
    began = time.process_time()
    mask(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 20
