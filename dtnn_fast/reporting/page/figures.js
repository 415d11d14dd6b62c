"use strict";
// Figures by plotly.js, in the colours of the theme.

/** Replace names of colours inside of data or layout by colours. */
function withColors(value) {
  if (typeof value === "string") return /^--[a-z]+\d?(\/[\d.]+)?$/.test(value) ? color(value) : value;
  if (Array.isArray(value)) return value.map(withColors);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) =>
      [name, name === "text" || name === "customdata" ? inner : withColors(inner)]));
  }
  return value;
}

function themedLayout(layout, width) {
  const axis = {
    gridcolor: color("--grid"), linecolor: color("--line"), zeroline: false, automargin: true, ticks: "outside",
    tickcolor: color("--line"), ticklen: 4, title: { standoff: 8 },
  };
  const themed = { ...withColors(layout) };
  for (const name of ["xaxis", "yaxis", "yaxis2"]) {
    if (layout[name]) themed[name] = { ...axis, ...themed[name], title: { ...axis.title, ...themed[name].title } };
  }
  // Labels that would touch each other on a narrow screen: only powers of ten and halves stay.
  if (width < 480 && themed.xaxis.ticktext) {
    themed.xaxis.ticktext = themed.xaxis.ticktext.map((text) => (/^0?\.?0*[15]/.test(text) ? text : ""));
  }
  return {
    ...themed,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: color("--text") },
    annotations: withColors(layout.annotations ?? []).map((note) => ({ showarrow: false, ...note })),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 10, r: 14, t: 12, b: 10 }, dragmode: "zoom", colorway: [color("--candidates")],
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--muted"), activecolor: color("--text") },
    hoverlabel: {
      bgcolor: color("--surface"), bordercolor: color("--line"),
      font: { color: color("--text"), family: getComputedStyle(document.body).fontFamily },
    },
  };
}

// Without the bar of buttons where it would cover the legend.
const plotConfig = (width) => ({ responsive: true, displaylogo: false, displayModeBar: width > 560 ? "hover" : false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });

function figureCard(figure) {
  const plot = el("div", { class: "plot", id: `plot-${figure.id}`, role: "img", "aria-label": figure.title });
  const card = el("figure", { class: "card figure", style: "margin:0" }, el("h3", {}, figure.title), plot,
    figure.notes.length ? el("figcaption", { class: "note" }, figure.notes.join(" ")) : null);
  const draw = () => window.Plotly.react(plot, withColors(figure.data), themedLayout(figure.layout, plot.clientWidth),
    plotConfig(plot.clientWidth));
  card.start = () => {
    draw();
    themeListeners.push(draw);
    plot.on("plotly_click", (event) => {
      const id = event.points[0]?.customdata;
      if (id !== undefined) select(id);
    });
  };
  return card;
}
