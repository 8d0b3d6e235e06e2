"""The doctor's real arithmetic, on the device this machine has."""

import pytest

from lekhai_helpers import doctor
from lekhai_helpers.core.hardware import machine


def test_the_matrix_product_agrees_with_float64():
    assert doctor._matmul_error("cpu") < 1e-5


def test_a_four_bit_layer_runs_forward_and_backward():
    finding = doctor._four_bit(machine())
    assert finding.status == "ok", finding


def test_four_bits_lose_something_but_not_much():
    """No loss at all would mean that nothing was rounded, and the check would prove nothing."""
    loss, gradient = doctor._four_bit_step("cpu")
    assert 0.02 < loss < 0.2
    assert gradient > 0


@pytest.mark.parametrize("error", [ImportError("no bitsandbytes"), RuntimeError("no kernel image is available")])
def test_a_layer_that_cannot_run_is_a_finding_and_no_crash(monkeypatch, error):
    def fail(device):
        raise error

    monkeypatch.setattr(doctor, "_four_bit_step", fail)
    finding = doctor._four_bit(machine())
    assert finding.status == "fail" and str(error) in finding.found
