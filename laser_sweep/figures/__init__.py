"""Pure functions from tables of the store to figures, shared by the report, the dashboard and W&B pages."""

from laser_sweep.figures.answers import flips, gain_by_frequency
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.composition import composition_path
from laser_sweep.figures.coverage import coverage
from laser_sweep.figures.heat_map import gain_heat_map
from laser_sweep.figures.layers import by_layer
from laser_sweep.figures.spectra import spectrum
from laser_sweep.figures.tradeoff import loss_against_accuracy

__all__ = [
    "Chart",
    "by_layer",
    "composition_path",
    "coverage",
    "flips",
    "gain_by_frequency",
    "gain_heat_map",
    "loss_against_accuracy",
    "spectrum",
]
