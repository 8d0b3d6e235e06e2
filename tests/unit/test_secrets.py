"""Secrets are masked by their shape, and what only looks like one stays."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.prepare.secrets import mask, mask_path

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
        ("OPENWEATHER_API_KEY=b6907d289e10d714a6e88b30761fae22", "key"),
        ("DB_PASSWORD=hunter22x", "key"),
        ("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMIK7MDENGbPxRfiCY", "key"),
        ("client_secret=abc12345678", "key"),
        ("api key (prod): b6907d289e10d714a6e88b30761fae22", "key"),
        ("**password:** hunter22", "key"),
        ("My password is: hunter22", "key"),
        ("Password - hunter22", "key"),
        ("Password – hunter22", "key"),
        ("| password | hunter22 |", "key"),
        ('password: "my hunter2 123"', "key"),
        ("passcode: 482113", "key"),
        ("Authorization: Bearer b6907d289e10d714a6e88b30761fae22", "key"),
        ("postgres://app:hunter2Pw9@db:5432/x", "key"),
        ("+880\u00a01712\u00a0345678", "phone"),
        ("+1\u2011902\u2011555\u20110142", "phone"),
        ("(902)\u00a0555-0187", "phone"),
        ("My phone is 9876543210", "phone"),
        ("my number: 9876543210", "phone"),
        ("call me on 98765 43210", "phone"),
        ("https://wa.me/8801712345678", "phone"),
        ("07700 900123", "phone"),
        ("020 7946 0958.", "phone"),
        ("06 12 34 56 78", "phone"),
        ("9025550187", "phone"),
        ("jane＠example.org", "mail"),
    ],
)
def test_a_secret_is_replaced_by_a_word_for_what_it_was(text, kind):
    masked, found = mask(text)
    assert found == {kind: 1}, masked
    assert not re.search(r"\d{4}", masked.replace("5432", "")), masked
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
        "in 2012–2013, on 01-02-2023 at 10:30, call on 14-03-2023, ring 2012 2013",
        "01 02 03 04 05 06 and 1700 1800 1900 2000",
        "ISBN 0306406157, ISBN-10: 8171674258",
        "2147483648 bytes, Tk 2500000000, ৳ 9025550187",
        "https://example.org/p/9025550187/edit",
        "Password - see the card; the token - 2023 edition; a rolling pin - 1200 taka",
        "| password | what it opens |",
        "the password was changed; his secret was nobody's; max_tokens: 4096",
        "পাসওয়ার্ড: ভুলে গেছি, পিন: হারিয়ে ফেলেছি",
        "The bearer responsibilities are many",
    ],
)
def test_dates_sums_and_plain_words_stay(text):
    assert mask(text) == (text, {})


@pytest.mark.parametrize("text", ["01711-111111/01812345678", "01711111111,01812345678", "9025550187,9025550188"])
def test_the_second_of_two_numbers_is_masked_too(text):
    masked, found = mask(text)
    assert found == {"phone": 2} and not re.search(r"\d", masked)


def test_a_number_that_is_a_part_of_a_path_or_of_a_nested_tag_is_masked():
    assert mask_path("call/01712345678") == "call/[phone number]"


@given(st.text(max_size=300))
def test_masking_twice_changes_nothing_more(text):
    once, _ = mask(text)
    assert mask(once)[0] == once


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "+1 ", "-----BEGIN PRIVATE KEY-----", "a@", "token: ", "eyJabcdefgh.", "(1", "a_", "://a:", "06 "],
)
def test_a_long_line_of_one_kind_takes_no_ages(piece):
    """A pattern that tries every beginning against every end takes hours on a note with one pasted line."""
    began = time.process_time()
    mask(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 20
