"""Bengali text: normalised once and for all, counted by script and by what the reader sees."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.core.bengali import bengali_share, char_ngrams, graphemes, jaccard, normalize, words

# Letters, signs and the invisible characters that copying from Word and from web pages brings along.
MESSY = st.text(st.sampled_from("কখযড়ঢ়য়অাে োৌ্‌‍়ঁ। ৳ab \u200b\u200c\u200d\ufeff\u00a0\u00ad\u2060\r\n\té̃"))


@given(st.one_of(st.text(), MESSY))
def test_normalizing_twice_changes_nothing_more(text):
    """Two vowel signs kept apart by an invisible character became one only on the second pass."""
    once = normalize(text)
    assert normalize(once) == once


@given(st.one_of(st.text(), MESSY))
def test_normalized_text_is_nfc(text):
    assert unicodedata.is_normalized("NFC", normalize(text))


@given(st.one_of(st.text(), MESSY))
def test_bengali_share_lies_between_0_and_1(text):
    assert 0 <= bengali_share(text) <= 1


@given(st.text(), st.text())
def test_overlap_is_symmetric_and_bounded(a, b):
    left, right = char_ngrams(a), char_ngrams(b)
    assert jaccard(left, right) == jaccard(right, left)
    assert 0 <= jaccard(left, right) <= 1 == jaccard(left, left)


def test_precomposed_letters_become_their_nfc_form():
    """য় and ড় have two spellings that look alike; a file with both teaches the model two words."""
    assert normalize("\u09df \u09dc \u09dd") == "\u09af\u09bc \u09a1\u09bc \u09a2\u09bc"


def test_taka_quotation_marks_and_inner_joiners_survive():
    assert normalize("৳৫০ “র‍্যাব” ‘চা’") == "৳৫০ “র‍্যাব” ‘চা’"


def test_stray_joiners_and_byte_order_marks_go():
    assert normalize("\ufeffঢাকা\u200d test\u200c") == "ঢাকা test"


def test_a_conjunct_is_one_character():
    assert graphemes("ক্ষমা") == ["ক্ষ", "মা"]


def test_words_keep_their_vowel_signs_and_hyphens():
    assert words("হাতে-কলমে শিখুন, ৩০ দিন!") == ["হাতে-কলমে", "শিখুন", "৩০", "দিন"]


def test_digits_count_as_bengali_and_punctuation_does_not_count():
    assert bengali_share("৩০ টাকা।।।") == 1
    assert bengali_share("!? ...") == 0
    assert bengali_share("কখ ab") == 0.5
