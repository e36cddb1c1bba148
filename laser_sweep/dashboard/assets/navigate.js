// Links inside the dashboard change the page without loading it again, and leave the focus where a person would look
// for it: at the same link where there is one still, else at the top of the new page.
(function () {
  "use strict";
  let place = null; // where the focus was when the page changed: data-place of a link, "" for a link without
  let scrolled = null; // how far down, when the same page is made again

  const open = function (href) {
    if (href === location.pathname + location.search) return;
    history.pushState({}, "", href);
    window.dispatchEvent(new PopStateEvent("popstate")); // dcc.Location listens to it
  };

  document.addEventListener("click", function (event) {
    const link = event.target.closest && event.target.closest("a[href^='/']");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    place = link.dataset.place || "";
    const target = new URL(link.href);
    if (target.pathname === location.pathname) {
      // How the table of this page is sorted and filtered is in the address here, but not in the server's links.
      const here = new URL(location.href).searchParams;
      for (const name of ["sort", "columns"]) {
        if (here.has(name) && !target.searchParams.has(name)) target.searchParams.set(name, here.get(name));
      }
    }
    open(target.pathname + target.search);
  });

  // Words to search for are looked up in lists of trials.
  window.laserSearch = function (text) {
    const words = (text || "").split(/\s+/).filter(Boolean).join(" ");
    const target = new URL(location.href);
    if ((target.searchParams.get("search") || "") === words) return;
    if (words) target.searchParams.set("search", words);
    else target.searchParams.delete("search");
    if (["/trial", "/compare"].includes(target.pathname)) {
      target.pathname = "/trials";
      for (const name of ["trial", "by", "of", "outcome", "everything"]) target.searchParams.delete(name);
    }
    open(target.pathname + target.search);
  };

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("button[data-copies]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copies).textContent;
    navigator.clipboard.writeText(text).then(function () {
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  });

  // Which parts of a page are unfolded is kept while it is rendered again.
  const unfolded = {};
  document.addEventListener("toggle", function (event) {
    if (event.target.id) unfolded[event.target.id] = event.target.open;
  }, true);

  window.laserArrived = function (shown) {
    window.laserTheme();
    document.title = shown.title + " · laser_sweep";
    for (const [id, open] of Object.entries(unfolded)) {
      const details = document.getElementById(id);
      if (details) details.open = open;
    }
    if (place !== null) {
      const same = Array.from(document.querySelectorAll("[data-place]")).find((one) => one.dataset.place === place);
      (same || document.querySelector("#main h1")).focus({ preventScroll: Boolean(same) });
    }
    if (scrolled !== null) window.scrollTo(0, scrolled);
    place = scrolled = null;
  };
  // The page that is there is about to be made again.
  window.laserKeep = function () {
    place = (document.activeElement.dataset && document.activeElement.dataset.place) || null;
    scrolled = window.scrollY;
  };
})();
