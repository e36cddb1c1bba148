// How cells of tables look and what they do.
(function () {
  "use strict";
  const create = window.React.createElement;
  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  const renderers = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

  functions.laser = {
    number: function (value, digits, signed) {
      if (value === null || value === undefined) return "";
      const sign = signed && value > 0 ? "+" : "";
      if (digits !== null) {
        return sign + value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
      }
      return sign + String(Number(value.toPrecision(5)));
    },
    // A number and, with what precision it is known, its standard error.
    withError: function (value, error, digits) {
      if (value === null || value === undefined) return "";
      const text = this.number(value, digits, false);
      return error === null || error === undefined ? text : text + " ± " + this.number(error, digits, false);
    },
    chance: function (value) {
      if (value === null || value === undefined) return "";
      return value < 1e-300 ? "< 1e-300" : value < 0.001 ? value.toExponential(1) : value.toPrecision(2);
    },

    // Enter in a cell follows its link.
    follow: function (params) {
      if (params.event.key !== "Enter") return;
      const cell = params.event.target.closest(".ag-cell");
      const link = cell && cell.querySelector("a");
      if (link) link.click();
    },

    // How a table is sorted and filtered is part of the address.
    remember: function (params) {
      const sorted = params.api.getColumnState().find((column) => column.sort);
      const filters = params.api.getFilterModel();
      const address = new URL(location.href);
      const set = (name, value) => (value ? address.searchParams.set(name, value) : address.searchParams.delete(name));
      set("sort", sorted ? (sorted.sort === "desc" ? "-" : "") + sorted.colId : "");
      set("columns", Object.keys(filters).length ? JSON.stringify(filters) : "");
      if (address.href !== location.href) history.replaceState(history.state, "", address.href);
    },

    theme: function (theme) {
      return theme.withParams({
        backgroundColor: "var(--card)",
        foregroundColor: "var(--ink)",
        borderColor: "var(--line)",
        headerBackgroundColor: "var(--head)",
        headerTextColor: "var(--muted)",
        headerFontWeight: 600,
        oddRowBackgroundColor: "var(--card)",
        rowHoverColor: "var(--hover)",
        accentColor: "var(--accent)",
        fontFamily: "var(--font)",
        fontSize: 13,
        spacing: 6,
        wrapperBorderRadius: 8,
        browserColorScheme: "inherit",
      });
    },
  };

  // A link to params.href with a value appended; plain text where there is no value.
  renderers.LaserLink = function (props) {
    const text = props.valueFormatted !== null && props.valueFormatted !== undefined ? props.valueFormatted : props.value;
    const value = props.data && props.data[props.by];
    if (value === null || value === undefined || value === "") return text === undefined ? "" : text;
    return create("a", { href: props.href + encodeURIComponent(value), tabIndex: -1 }, text);
  };

  renderers.LaserBadge = function (props) {
    if (!props.value) return "";
    const badge = create("span", { className: "badge " + String(props.value).replaceAll(" ", "-") }, props.value);
    return props.href ? renderers.LaserLink({ ...props, valueFormatted: badge }) : badge;
  };

  renderers.LaserProgress = function (props) {
    if (!props.data) return "";
    const bar = (share, kind) => create("span", { className: kind, style: { width: 100 * share + "%" }, key: kind });
    return create(
      "span",
      { className: "progress" },
      create("span", { className: "bar", "aria-hidden": true, key: "bar" }, [
        bar(props.data.share_done, "done"),
        bar(props.data.share_failed, "failed"),
      ]),
      create("span", { key: "text" }, props.value),
    );
  };
})();
