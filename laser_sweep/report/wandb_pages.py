"""Pages of Weights & Biases over the runs of the tracker: a workspace and a report, built with wandb-workspaces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laser_sweep.analysis.comparisons import comparisons
from laser_sweep.errors import RequestError
from laser_sweep.measures import ANSWERS, KINDS, Measures
from laser_sweep.report.content import Section, gather
from laser_sweep.store.reader import read_trials

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

_TITLE = "laser_sweep"
_HEIGHT = 10  # of a panel in a report, which is 24 columns wide


def publish(root: str | Path, project: str | None = None, entity: str | None = None) -> str:
    """Saves the workspace and the report of a store with W&B, and says where. WANDB_PROJECT and WANDB_ENTITY count.

    The panels show the runs of that project, which `python -m laser_sweep.store sync` can make from the store. Raises
    RequestError where wandb-workspaces is not installed, where there is no key, and where W&B refuses.
    """
    _wandb_workspaces()
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise RequestError("W&B pages need a key: run `wandb login`, or set WANDB_API_KEY")
    try:
        owner = entity or os.environ.get("WANDB_ENTITY") or str(wandb.Api().default_entity)
        where = project or os.environ.get("WANDB_PROJECT", "laser-sweep")
        workspace = build_workspace(root, project=where, entity=owner).save()
        report = build_report(root, project=where, entity=owner).save()
        return f"workspace: {workspace.url}\nreport: {report.url}"
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"W&B refused the pages: {type(error).__name__}: {error}") from error


def build_workspace(root: str | Path, *, project: str, entity: str) -> Workspace:
    """A view of a project for both ways of tracking, with the heat maps of this store. Nothing is sent."""
    wr, ws = _wandb_workspaces()
    in_sections = {
        "Trials of a sweep": _of_sweeps(wr, root),
        "Each trial a run": _of_trials(wr, root),
        "On test": _on_test(wr, root),
    }
    names = [name for kind in _kinds(root) for name in (kind.score.column, "gain", kind.loss.column)]
    columns = ["run:displayName", *(f"summary:val/{name}" for name in dict.fromkeys(names))]
    workspace: Workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=_TITLE,
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in in_sections.items()],
        settings=ws.WorkspaceSettings(x_axis="trial", max_runs=100),
        runset_settings=ws.RunsetSettings(pinned_columns=columns),
    )
    return workspace


def build_report(root: str | Path, *, project: str, entity: str) -> Report:
    """What the page of `python -m laser_sweep.report` says of each model and data set, beside panels over the runs.

    Nothing is sent. Raises RequestError where there is no store.
    """
    wr, _ = _wandb_workspaces()
    found = gather(root, figures=False)
    # Run sets that name no project are of the report's own; one that is named has to be looked up at the server.
    sweeps, trials = (wr.Runset(name=f"{one} runs", filters=f"JobType == '{one}'") for one in ("sweep", "trial"))
    report: Report = wr.Report(
        entity=entity,
        project=project,
        title=f"{_TITLE}: {Path(found.store).name}",
        description=found.lead,
        width="fluid",
        blocks=[
            wr.MarkdownBlock(text="\n\n".join(_in_words(section) for section in found.sections)),
            wr.H2("Trials of a sweep"),
            wr.PanelGrid(runsets=[sweeps], panels=_laid_out(wr, _of_sweeps(wr, root))),
            wr.H2("Each trial a run"),
            wr.PanelGrid(runsets=[trials], panels=_laid_out(wr, [*_of_trials(wr, root), *_on_test(wr, root)])),
        ],
    )
    return report


def _wandb_workspaces() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise RequestError("W&B pages need wandb-workspaces: pip install 'laser-sweep[wandb-report]'") from None
    return wr, ws


def _kinds(root: str | Path) -> list[Measures]:
    """What the trials of the store are judged by."""
    trials = read_trials(root)
    return [kind for kind in KINDS if trials[kind.score.column].notna().any()] or [ANSWERS]


def _of_sweeps(wr: Any, root: str | Path) -> list[Any]:
    """Panels over the history of runs that have a row for each trial."""
    panels: list[Any] = [wr.LinePlot(title="gain over the untouched model", x="trial", y=["val/gain"])]
    for kind in _kinds(root):
        score, loss = kind.both
        unit = f",{loss.unit}" if loss.unit else ""
        panels.insert(0, wr.LinePlot(title=f"{score.name} on val", x="trial", y=[f"val/{score.column}"]))
        panels.append(wr.LinePlot(title=f"{loss.name} on val{unit}", x="trial", y=[f"val/{loss.column}"], log_y=True))
    heat_maps = _heat_maps(root)
    if heat_maps:
        panels.append(wr.MediaBrowser(title="gain by layer and ρ", media_keys=list(heat_maps), num_columns=2))
    return [*panels, wr.WeavePanelSummaryTable(table_name="trials")]


def _of_trials(wr: Any, root: str | Path) -> list[Any]:
    """Panels over the summaries of runs that are one trial each."""
    settings = [wr.ParallelCoordinatesPlotColumn(wr.Config(name)) for name in ("intervention.name", "tau", "layer")]
    fraction = wr.ParallelCoordinatesPlotColumn(wr.Config("rho"), log=True)
    kinds = _kinds(root)
    names = [*(f"val/{name}" for kind in kinds for name in (kind.loss.column, kind.score.column)), "val/gain"]
    figures = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(name)) for name in names]
    gain = wr.SummaryMetric("val/gain")
    return [
        wr.ParallelCoordinatesPlot(title="what makes a gain", columns=[*settings, fraction, *figures]),
        wr.ScatterPlot(title="gain by ρ", x=wr.Config("rho"), y=gain, log_x=True),
        wr.ScatterPlot(title="gain by layer", x=wr.Config("layer"), y=gain),
        *(
            wr.ScatterPlot(
                title=f"{kind.score.name} by {kind.loss.name}",
                x=wr.SummaryMetric(f"val/{kind.loss.column}"),
                y=wr.SummaryMetric(f"val/{kind.score.column}"),
            )
            for kind in kinds
        ),
    ]


def _on_test(wr: Any, root: str | Path) -> list[Any]:
    scores = [kind.score for kind in _kinds(root)]
    return [
        *(wr.BarPlot(title=f"{score.name} on test", metrics=[f"test/{score.column}"]) for score in scores),
        wr.BarPlot(title="gain on test", metrics=["test/gain"]),
    ]


def _laid_out(wr: Any, panels: Sequence[Any]) -> list[Any]:
    """Two panels in a row of a report; a table or a heat map takes all of it."""
    x = y = 0
    for panel in panels:
        width = 12 if isinstance(panel, wr.LinePlot | wr.ScatterPlot | wr.BarPlot) else 24
        if x + width > 24:
            x, y = 0, y + _HEIGHT
        panel.layout = wr.Layout(x=x, y=y, w=width, h=_HEIGHT)
        x += width
    return list(panels)


def _heat_maps(root: str | Path) -> list[str]:
    """The names under which the tracker shows heat maps of the trials of a store."""
    names: dict[str, None] = {}
    for view in comparisons(read_trials(root)):
        if view.split == "val":
            names |= dict.fromkeys(f"heat_map/{view.model}/{view.dataset}/{tau}" for tau in _grids(view.trials))
    return list(names)


def _grids(trials: Any) -> list[str]:
    """Matrix types of which more than one layer and more than one fraction were asked for."""
    axes = trials.groupby("tau")[["layer", "rho"]].nunique()
    return [str(tau) for tau in axes.index[(axes > 1).all(axis=1)]]


def _in_words(section: Section) -> str:
    """A model on a data set, the winner first."""
    return "\n".join([f"## {section.title}", "", section.lead, "", *(f"* {line}" for line in section.findings)])
