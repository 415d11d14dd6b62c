"use strict";
// The table of crystals: sorted by any column, filtered by text, elements, numbers and warnings.

const targetColumn = (target) => ({
  key: `${target}_mean`, label: target === content.main_target ? `${target} ε` : target, decimals: target === "electronic" ? 2 : 1,
  title: `Mean ${target} permittivity, with the error bar of the mean`, descending: true,
  value: (crystal) => crystal.tensors[target]?.mean ?? null,
  cell: (crystal) => withError(crystal.tensors[target]?.mean, crystal.tensors[target]?.mean_error, target === "electronic" ? 2 : 1),
});
const numberColumn = (key, label, title, decimals, descending) => ({
  key, label, title, descending, value: (crystal) => crystal[key] ?? null, cell: (crystal) => fixed(crystal[key], decimals),
});

const COLUMNS = [
  { ...numberColumn("rank", content.kind === "screening" ? "rank" : "no.", "Place in the ranking or among the files", 0, false), always: true },
  { key: "formula", label: "crystal", title: "Formula and id", text: true, value: (crystal) => crystal.formula ?? "",
    cell: (crystal) => [el("button", { type: "button", class: "name" }, formulaOf(crystal.formula)), " ", marksOf(crystal),
      el("span", { class: "id", title: crystal.id }, crystal.id)], always: true },
  { key: "crystal_system", label: "system", title: "Crystal system", text: true, value: (crystal) => crystal.crystal_system ?? null,
    cell: (crystal) => crystal.crystal_system ?? "–" },
  numberColumn("band_gap", "gap (eV)", "Band gap as the source gives it, eV", 2, true),
  numberColumn("figure_of_merit", "gap × ε (eV)", "Figure of merit: band gap × mean permittivity, eV", 1, true),
  targetColumn(content.main_target),
  { key: "whisker", label: "", title: "Mean permittivity and its error bar, on one scale", value: (crystal) => whiskerOf(crystal),
    cell: (crystal) => whisker(crystal), plain: true },
  ...content.targets.filter((target) => target !== content.main_target).reverse().map(targetColumn),
  { key: "anisotropy", label: "anisotropy", title: `Largest minus smallest principal value of the ${content.main_target} tensor`,
    descending: true, value: (crystal) => crystal.tensors[content.main_target]?.anisotropy ?? null,
    cell: (crystal) => fixed(crystal.tensors[content.main_target]?.anisotropy, 1) },
  numberColumn("refractive_index", "n", "Refractive index", 2, true),
  numberColumn("e_above_hull", "E hull (eV/atom)", "Energy above the convex hull, eV/atom", 3, false),
];

/** Marks beside the formula, where no narrow screen hides them. */
function marksOf(crystal) {
  return [crystal.warnings.length ? el("span", { class: "mark", title: crystal.warnings.join("\n") },
    plural(crystal.warnings.length, "warning", "warnings")) : null,
  crystal.labelled ? el("span", { class: "tag", title: "The tensor is known from DFPT" }, "DFPT") : null];
}

const whiskerOf = (crystal) => {
  const tensor = crystal.tensors[content.main_target];
  return tensor ? tensor.mean + (tensor.mean_error ?? 0) : null;
};
let largestWhisker = 1e-9;

function whisker(crystal) {
  const tensor = crystal.tensors[content.main_target];
  if (!tensor) return "";
  const width = 92, height = 14, x = (value) => (2 + (width - 6) * Math.min(Math.max(value / largestWhisker, 0), 1)).toFixed(1);
  const svg = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const error = tensor.mean_error ?? 0, line = { y1: height / 2, y2: height / 2 };
  const picture = svg("svg", { width, height, class: "whisker", "aria-hidden": "true" });
  picture.append(svg("line", { x1: 0, x2: width, ...line, stroke: "var(--grid)" }),
    svg("line", { x1: x(tensor.mean - error), x2: x(tensor.mean + error), ...line, stroke: "var(--candidates)",
      "stroke-width": 3, opacity: 0.45, "stroke-linecap": "round" }),
    svg("circle", { cx: x(tensor.mean), cy: height / 2, r: 3.2, fill: "var(--candidates)" }));
  return picture;
}

class CrystalTable {
  constructor() {
    largestWhisker = Math.max(1e-9, ...content.crystals.map((crystal) => whiskerOf(crystal) ?? 0));
    this.columns = COLUMNS.filter((column) => column.always ||
      content.crystals.some((crystal) => ![null, "", 0].includes(column.value(crystal))));
    this.sortKey = "rank";
    this.descending = false;
    this.elements = new Set();
    this.rows = new Map(content.crystals.map((crystal) => [crystal.id, this.row(crystal)]));
    this.body = el("tbody");
    this.status = el("p", { class: "note status", id: "status", role: "status" });
    this.headers = new Map(this.columns.map((column) => [column.key, this.header(column)]));
    const table = el("table", { class: "crystals" }, el("thead", {}, el("tr", {}, [...this.headers.values()])), this.body);
    this.element = el("div", { class: "card table-card" }, this.filters(), this.status, el("div", { class: "scroll", tabindex: "-1" }, table));
    selectionListeners.push((crystal) => this.mark(crystal));
    this.update();
  }

  header(column) {
    const kind = { class: column.text ? "text" : null, scope: "col", title: column.title };
    if (column.plain) return el("th", kind);
    return el("th", kind, el("button", { type: "button", "data-key": column.key, onclick: () => this.sort(column) }, column.label));
  }

  row(crystal) {
    return el("tr", { "data-id": crystal.id, onclick: () => select(crystal.id) },
      this.columns.map((column) => el("td", { class: column.text ? "text" : null }, column.cell(crystal))));
  }

  filters() {
    const changed = { oninput: () => this.update() };
    const field = (label, control, size = "") => el("label", { class: `field ${size}` }, label, control);
    this.text = el("input", { type: "search", id: "filter-text", placeholder: "Ba Ti, mp-5229, cubic …", ...changed });
    const systems = [...new Set(content.crystals.map((crystal) => crystal.crystal_system).filter(Boolean))].sort();
    this.system = el("select", { id: "filter-system", onchange: () => this.update() }, el("option", { value: "" }, "all"),
      systems.map((system) => el("option", { value: system }, system)));
    this.gap = el("input", { type: "number", id: "filter-gap", min: "0", step: "0.1", placeholder: "0", ...changed });
    this.hull = el("input", { type: "number", id: "filter-hull", step: "0.01", placeholder: "any", ...changed });
    this.clean = el("input", { type: "checkbox", id: "filter-clean", onchange: () => this.update() });
    const has = (key) => this.columns.some((column) => column.key === key);
    return el("div", { class: "filters" }, field("text, or elements that must occur", this.text, "grow"),
      field("system", this.system),
      has("band_gap") ? field("gap at least (eV)", this.gap, "small") : null,
      has("e_above_hull") ? field("E hull at most", this.hull, "small") : null,
      content.crystals.some((crystal) => crystal.warnings.length) ? el("label", { class: "check" }, this.clean, "without warnings") : null,
      el("button", { type: "button", class: "quiet", id: "reset", onclick: () => this.reset() }, "Reset"));
  }

  reset() {
    for (const control of [this.text, this.system, this.gap, this.hull]) control.value = "";
    this.clean.checked = false;
    this.elements.clear();
    this.onelements?.();
    this.update();
  }

  /** Show crystals with an element only, or again all; of several elements each must occur. */
  toggleElement(symbol) {
    if (!this.elements.delete(symbol)) this.elements.add(symbol);
    this.onelements?.();
    this.update();
  }

  sort(column) {
    this.descending = this.sortKey === column.key ? !this.descending : Boolean(column.descending);
    this.sortKey = column.key;
    this.update();
  }

  matches(crystal) {
    const terms = this.text.value.trim().split(/\s+/).filter(Boolean);
    const words = [crystal.formula, crystal.id, crystal.crystal_system, ...crystal.codes].join(" ").toLowerCase();
    const gap = parseFloat(this.gap.value), hull = parseFloat(this.hull.value);
    return terms.every((term) => (/^[A-Z][a-z]?$/.test(term) && crystal.elements.includes(term)) ||
        (!/^[A-Z][a-z]?$/.test(term) && words.includes(term.toLowerCase()))) &&
      [...this.elements].every((symbol) => crystal.elements.includes(symbol)) &&
      (!this.system.value || crystal.crystal_system === this.system.value) &&
      (!(gap > 0) || crystal.band_gap >= gap) &&
      (Number.isNaN(hull) || (isNumber(crystal.e_above_hull) && crystal.e_above_hull <= hull)) &&
      (!this.clean.checked || !crystal.warnings.length);
  }

  update() {
    const column = this.columns.find((candidate) => candidate.key === this.sortKey);
    const sign = this.descending ? -1 : 1;
    const shown = content.crystals.filter((crystal) => this.matches(crystal)).sort((first, second) => {
      const [a, b] = [column.value(first), column.value(second)];
      if (a === null || b === null) return (a === null) - (b === null); // unknown last, either way
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b) || first.rank - second.rank;
    });
    this.body.replaceChildren(...shown.map((crystal) => this.rows.get(crystal.id)));
    if (!shown.length) {
      const text = content.crystals.length ? "No crystal matches these filters." : "No crystal is ranked.";
      this.body.append(el("tr", {}, el("td", { class: "empty", colspan: this.columns.length }, text)));
    }
    for (const [key, header] of this.headers) {
      if (key === this.sortKey) header.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    }
    const elements = this.elements.size ? ` with ${[...this.elements].join(" and ")}` : "";
    this.status.textContent = `${thousands(shown.length)} of ${plural(content.crystals.length, "crystal", "crystals")}${elements}`;
  }

  mark(crystal) {
    for (const [id, row] of this.rows) row.classList.toggle("selected", crystal !== null && id === crystal.id);
  }
}
