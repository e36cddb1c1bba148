// Puts what is new into the parts of the page that laser_sweep/dashboard/live.py calls live. What has not changed is not
// touched, so that a place that is being read, scrolled or typed in stays as it is.
(function () {
  "use strict";
  let known = {}; // what each part last got, as JSON

  const refreshTables = function () {
    if (!window.dash_ag_grid) return;
    document.querySelectorAll(".grid").forEach(function (grid) {
      const id = grid.id && JSON.parse(grid.id);
      if (!id || id.live !== "trials") return;
      const api = window.dash_ag_grid.getApi(id);
      if (api) api.refreshInfiniteCache();
    });
  };

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.laser = {
    // (what `follow` or `finish` found, what is shown) -> (how fresh that is now, whether the whole frame has to be made
    // again)
    take: function (news, shown) {
      const keep = window.dash_clientside.no_update;
      if (!news || !shown || news.address !== shown.address || news.version < shown.version) return [keep, keep];
      if (!news.fits) {
        window.laserKeep();
        return [keep, Date.now()];
      }
      for (const part of news.parts) {
        const name = JSON.stringify(part.id);
        const value = JSON.stringify(part.value === undefined ? null : part.value);
        if (known[name] !== value && part.value !== null) {
          window.dash_clientside.set_props(part.id, { [part.prop]: part.value });
          known[name] = value;
        }
      }
      refreshTables();
      return [{ address: news.address, version: news.version }, keep];
    },
    search: function (text) {
      window.laserSearch(text);
      return window.dash_clientside.no_update;
    },
    // A frame has been made: its parts have what they were made with.
    arrived: function (shown) {
      known = {};
      if (shown) requestAnimationFrame(() => window.laserArrived(shown));
      return window.dash_clientside.no_update;
    },
  };
})();
