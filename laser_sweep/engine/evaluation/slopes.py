"""Gradients of single examples -> their means and standard errors, batch by batch."""

from __future__ import annotations

import numpy as np
import torch

from laser_sweep.probe import NUM_LAST, Curve, Slopes


class SlopesTally:
    """Adds up the gradients of examples along the r singular directions of one matrix, in float64.

    What is kept does not grow with the number of examples.
    """

    def __init__(self, singular_values: torch.Tensor) -> None:
        self._singular_values = singular_values  # (r,)
        self._gradients = _Moments()
        self._gains = _Moments()
        self._last = _Moments(together=True)

    def add(self, gradients: torch.Tensor) -> None:
        """`gradients` (examples, r) float64: g_i of each example."""
        removed = gradients * self._singular_values.to(gradients)
        self._gradients.add(gradients)
        self._gains.add(removed.flip(-1).cumsum(-1).flip(-1))
        self._last.add(gradients[:, -NUM_LAST:])

    def slopes(self) -> Slopes:
        """Means over the examples, and their standard errors sd / sqrt(n) with n - 1 in sd: nan for one example.

        That of `last20` is the delta method's: which of the directions have a positive mean is taken as known.
        """
        positive = (self._last.mean > 0).double()
        variance = positive @ self._last.covariance @ positive
        return Slopes(
            num_examples=self._gradients.count,
            values=_curve(self._gradients.mean),
            values_stderr=_curve(self._gradients.stderr),
            gains=_curve(self._gains.mean),
            gains_stderr=_curve(self._gains.stderr),
            last20=float(self._last.mean @ positive),
            last20_stderr=float((variance.clamp(min=0) / self._last.count).sqrt()),
        )


class _Moments:
    """Mean and squared deviations of rows that come batch by batch (Chan, Golub & LeVeque 1983).

    `together` keeps the products of the deviations of all pairs of columns.
    """

    def __init__(self, *, together: bool = False) -> None:
        self._together = together
        self.count = 0
        self.mean = torch.zeros(())  # (k,) from the first batch on
        self._squares = torch.zeros(())  # (k,), together (k, k)

    def add(self, rows: torch.Tensor) -> None:
        """`rows` (n, k), n >= 1."""
        mean = rows.mean(dim=0)
        deviations, shift = rows - mean, mean - self.mean.to(mean)
        total = self.count + len(rows)
        self._squares = (
            self._squares.to(mean)
            + self._products(deviations)
            + self._products(shift[None]) * (self.count * len(rows) / total)
        )
        self.mean = self.mean.to(mean) + shift * (len(rows) / total)
        self.count = total

    @property
    def covariance(self) -> torch.Tensor:
        """(k, k), or (k,) variances; nan where there is one row."""
        return self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, torch.nan)

    @property
    def stderr(self) -> torch.Tensor:
        """(k,) of the mean."""
        return (self.covariance / self.count).sqrt()

    def _products(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.T @ rows if self._together else rows.square().sum(dim=0)


def _curve(values: torch.Tensor) -> Curve:
    return np.asarray(values.cpu().numpy(), dtype=np.float64)
