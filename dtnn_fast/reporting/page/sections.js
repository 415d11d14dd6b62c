"use strict";
// The sections of the page, from top to bottom, and its start.

const section = (id, title, hint, ...children) => el("section", { id, "data-title": title },
  el("div", {}, el("h2", {}, title), hint ? el("p", { class: "note" }, hint) : null), children);
const counts = content.counts;

function overview() {
  const tile = (value, label) => el("div", { class: "card tile" }, el("b", {}, thousands(value)), el("span", {}, label));
  return el("section", { id: "overview" }, el("div", { class: "tiles" },
    tile(counts.predicted, "crystals predicted"), tile(counts.with_gap, "with a known band gap"),
    tile(counts.ranked, "ranked"), tile(counts.warned, "with warnings"),
    counts.duplicates ? tile(counts.duplicates, "duplicates") : null,
    counts.labelled ? tile(counts.labelled, "known by DFPT") : null, tile(counts.rejected, "rejected")));
}

function periodicTable(table) {
  const { total, cells } = content.elements, largest = Math.max(1, ...cells.map((cell) => cell.count));
  const buttons = new Map();
  const grid = el("div", { class: "elements" }, cells.map((cell) => {
    const part = cell.count / largest;
    const button = el("button", {
      type: "button", disabled: !cell.count, "aria-pressed": "false", "data-element": cell.symbol,
      style: `grid-row:${cell.row};grid-column:${cell.column}`,
      title: `${cell.symbol}: in ${cell.count} of the first ${total}, in ${(100 * cell.share).toFixed(1)} % of all crystals`,
      onclick: () => { table.toggleElement(cell.symbol); document.getElementById("shortlist").scrollIntoView(); },
    }, el("b", {}, cell.symbol), cell.count ? el("span", {}, String(cell.count)) : null);
    buttons.set(cell.symbol, { button, part });
    return button;
  }), el("div", { class: "gap", style: "grid-row:8" }));
  const scale = el("i");
  const paint = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    const opacity = (part) => (part ? 0.14 + 0.86 * Math.sqrt(part) : 0);
    for (const { button, part } of buttons.values()) {
      if (!part) continue;
      button.style.background = color(`--candidates/${opacity(part).toFixed(3)}`);
      button.style.color = opacity(part) > 0.62 ? (dark ? "#0b1016" : "#ffffff") : color("--text");
    }
    scale.style.background = `linear-gradient(90deg, ${[0.002, 0.25, 0.5, 0.75, 1]
      .map((part) => `${color(`--candidates/${opacity(part).toFixed(3)}`)} ${100 * part}%`).join(", ")})`;
  };
  themeListeners.push(paint);
  table.onelements = () => buttons.forEach(({ button }, symbol) =>
    button.setAttribute("aria-pressed", String(table.elements.has(symbol))));
  return el("div", { class: "card figure" }, el("h3", {}, `Elements among the first ${total}`),
    el("p", { class: "note" }, "Number of these crystals with the element. Choose elements to filter the table."), grid,
    el("div", { class: "scale" }, "1", scale, `${largest} crystals`), enrichedElements(total, cells));
}

/** Elements that are more frequent among the first ranks than among all crystals, as pairs of bars. */
function enrichedElements(total, cells) {
  const found = content.elements.enriched.map((symbol) => cells.find((cell) => cell.symbol === symbol));
  if (!found.length) return null;
  const largest = Math.max(...found.map((cell) => cell.count / total));
  const bar = (share, kind) => el("span", { class: `bar ${kind}` }, el("i", { style: `width:${(100 * share) / largest}%` }),
    el("span", {}, `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`));
  return el("div", { class: "enriched" }, el("h4", {}, "More frequent than among all crystals"),
    el("p", { class: "note" }, el("i", { class: "key first" }), ` of the first ${total}  `, el("i", { class: "key" }), " of all crystals"),
    found.map((cell) => el("div", { class: "pair-of-bars" }, el("b", {}, cell.symbol),
      el("div", {}, bar(cell.count / total, "first"), bar(cell.share, "all")))));
}

function shortlist(table, panel, alone) {
  const bars = "± is the error bar of the mean, which holds for nine of ten crystals kept out of training";
  const hint = `${content.ranked_by}. ${bars}.`;
  const title = content.kind === "screening" ? `The first ${thousands(content.crystals.length)}` : "Crystals";
  if (alone) return section("shortlist", "Crystal", null, el("div", { class: "shortlist alone" }, panel.element));
  return section("shortlist", title, content.kind === "screening" ? hint : null,
    el("div", { class: "shortlist" }, table.element, panel.element));
}

function rejectedSection() {
  const { total, groups, others, rows } = content.rejected;
  const unranked = notRanked();
  if (!total) return section("rejected", "Rejected", "No crystal was rejected.", unranked);
  let group = null, limit = 200;
  const body = el("tbody"), status = el("p", { class: "note status", id: "rejected-status", role: "status" });
  const search = el("input", { type: "search", id: "rejected-text", placeholder: "id, file or reason", oninput: () => fill() });
  const more = el("button", { type: "button", class: "quiet", onclick: () => { limit += 500; fill(); } }, "Show more");
  const buttons = groups.map((entry, index) => el("button", { type: "button", class: "group", "aria-pressed": "false",
    onclick: () => { group = group === index ? null : index; limit = 200; fill(); } },
    el("b", {}, thousands(entry.count)), el("span", {}, entry.reason),
    el("i", { style: `width:${(100 * entry.count) / groups[0].count}%` })));
  function fill() {
    const text = search.value.trim().toLowerCase();
    const found = rows.filter((row) => (group === null || row[3] === group) &&
      (!text || row.slice(0, 3).join(" ").toLowerCase().includes(text)));
    body.replaceChildren(...found.slice(0, limit).map((row) => el("tr", {}, row.slice(0, 3).map((value) => el("td", {}, value)))));
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(index === group)));
    const part = rows.length < total ? ` This page lists ${thousands(rows.length)} of them, some of each reason; the folder has all.` : "";
    status.textContent = `${thousands(found.length)} listed, ${thousands(total)} rejected.${part}`;
    more.hidden = found.length <= limit;
  }
  fill();
  const list = el("div", { class: "card table-card" },
    el("div", { class: "filters" }, el("label", { class: "field grow" }, "search", search)), status,
    el("div", { class: "scroll", tabindex: "-1" }, el("table", { class: "list" },
      el("thead", {}, el("tr", {}, ["id", "source", "reason"].map((name) => el("th", { scope: "col" }, name)))), body), more));
  const rare = others ? el("p", { class: "note" }, `${plural(others, "crystal", "crystals")} for rarer reasons.`) : null;
  return section("rejected", "Rejected", `${plural(total, "crystal was", "crystals were")} not predicted, by reason.`,
    groups.length ? el("div", { class: "reasons" }, el("div", { class: "card groups" }, buttons, rare), list) : list, unranked);
}

/** Crystals that were predicted but are off the list; one may have several reasons. */
function notRanked() {
  const reasons = content.not_ranked ?? [];
  if (!reasons.length) return null;
  return el("div", { class: "card groups", id: "not-ranked" }, el("h3", {}, "Predicted, but not ranked"),
    el("p", { class: "note" }, "Number of crystals for each reason; one may have several. unranked.csv lists them."),
    reasons.map(([text, count]) => el("div", { class: "group", style: "cursor:default" }, el("b", {}, thousands(count)),
      el("span", {}, text), el("i", { style: `width:${(100 * count) / reasons[0][1]}%` }))));
}

function provenance() {
  const rows = content.provenance.flatMap(([name, text]) => [el("dt", {}, name),
    el("dd", { class: ["screening", "report", "command"].includes(name) ? "code" : null }, text)]);
  return section("provenance", "Provenance", null, el("dl", { class: "card origin" }, rows));
}

let panel = null;

function start() {
  startTheme();
  const alone = content.kind === "prediction" && content.crystals.length === 1;
  const table = new CrystalTable();
  panel = new CrystalPanel(alone);
  const cards = content.figures.map(figureCard), [merit, ...densities] = cards;
  const parts = content.kind === "screening" ? [
    overview(),
    section("best", content.figures[0].title.includes("gap") ? "Band gap and permittivity" : "Permittivity", "Choose a point of the first ranks to see its crystal.",
      el("div", { class: "best" }, merit, periodicTable(table))),
    shortlist(table, panel, false),
    section("densities", "Training crystals and candidates", "Contours enclose 10, 30, 50, 70 and 90 % of the crystals.",
      el("div", { class: "pair" }, densities)),
  ] : [shortlist(table, panel, alone)];
  if (content.kind === "screening" || counts.rejected) parts.push(rejectedSection());
  parts.push(provenance());
  document.getElementById("main").replaceChildren(...parts);
  document.getElementById("nav").append(el("div", {}, parts.filter((part) => part.dataset.title)
    .map((part) => el("a", { href: `#${part.id}` }, part.dataset.title))));
  document.getElementById("lead").textContent = content.kind === "screening"
    ? `Dielectric tensors predicted by dtnn-fast ${content.version}; the ${thousands(counts.training)} bundled crystals ` +
      "with tensors from DFPT stand for the training set."
    : `Relative permittivities predicted by dtnn-fast ${content.version}, in the Cartesian frame of the lattice vectors.`;
  if (content.kind === "prediction") {
    const names = content.crystals.slice(0, 3).flatMap((crystal, k) => [k ? ", " : "", ...formulaOf(crystal.formula)]);
    document.querySelector("h1").replaceChildren("Dielectric tensors: ", ...names, content.crystals.length > 3 ? ", …" : "");
  }
  const licence = document.getElementById("licence-3dmol").textContent;
  document.getElementById("foot").append(
    `${content.figures.length ? "Figures by plotly.js (MIT, © Plotly). " : ""}Structures by 3Dmol.js (BSD-3-Clause, © University of Pittsburgh and contributors).`,
    el("details", {}, el("summary", {}, "Licence of 3Dmol.js"), el("pre", {}, licence)));
  cards.forEach((card) => card.start());
  setTheme(document.documentElement.dataset.theme);
  if (content.crystals.length) select(content.crystals[0].id, alone);
  document.body.dataset.ready = "true";
}

start();
