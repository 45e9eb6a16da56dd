"""The table of weightings, by value."""

import pytest
import torch

from fewstep.weightings import SNR, InverseGap, KarrasWeighting, SNRPlusOne, TruncatedSNR, Uniform


@pytest.mark.parametrize(
    ("weighting", "wanted"),
    [
        (Uniform(), [1.0, 1.0, 1.0]),
        (InverseGap(), [1 / 0.4, 1 / 0.5, 1 / 3.0]),
        (SNR(), [4.0, 1.0, 1 / 16]),
        (SNRPlusOne(), [5.0, 2.0, 17 / 16]),
        (KarrasWeighting(0.5), [8.0, 5.0, 4 + 1 / 16]),
        (TruncatedSNR(), [4.0, 1.0, 1.0]),
    ],
)
def test_values(weighting, wanted):
    t, s = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([0.1, 0.5, 1.0])
    torch.testing.assert_close(weighting(t, s), torch.tensor(wanted))


def test_karras_weighting_is_one_over_c_out_squared():
    t, sd = torch.tensor([0.01, 1.0, 70.0]).double(), 0.3
    torch.testing.assert_close(KarrasWeighting(sd)(t, t), (t**2 + sd**2) / (t * sd) ** 2)
