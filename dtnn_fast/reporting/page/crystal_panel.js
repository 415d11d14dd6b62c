"use strict";
// The panel of the selected crystal: structure in 3D, tensors, error bars, warnings.

class CrystalPanel {
  constructor(wide) {
    this.crystal = null;
    this.wide = wide;
    this.options = { target: content.main_target, ellipsoid: true, repeats: 1 };
    this.stage = el("div", { class: "stage", id: "stage" });
    this.view = new StructureView(this.stage);
    this.head = el("div", { class: "panel-head" });
    this.warnings = el("ul", { class: "warnings" });
    this.legend = el("div", { class: "legend" });
    this.save = el("button", { type: "button", class: "quiet", id: "save", onclick: () => savePoscar(this.crystal) }, "Save POSCAR");
    this.tensor = el("div", { id: "tensor", class: "tensors" });
    this.facts = el("dl", { class: "facts" });
    this.element = el("aside", { class: `card panel${wide ? " wide" : ""}`, id: "panel", "aria-label": "Selected crystal" },
      this.head, this.warnings,
      el("div", { class: "viewer-column" }, this.controls(), this.stage, el("div", { class: "below-stage" }, this.legend, this.save), el("p", { class: "hint" },
        "Drag to turn, scroll to zoom. Semi-axes of the ellipsoid lie along the principal axes, and are proportional " +
        "to the principal values of the tensor.")),
      el("div", { class: "facts-column" }, this.tensor, this.facts));
    selectionListeners.push((crystal, fromUser) => this.show(crystal, fromUser));
    themeListeners.push(() => this.redraw(true));
  }

  controls() {
    this.segments = content.targets.map((target) => el("button", { type: "button", "data-target": target,
      onclick: () => { this.options.target = target; this.refresh(true); } }, target));
    const toggle = (label, change) => el("label", { class: "check" }, el("input", { type: "checkbox", onchange: change }), label);
    const ellipsoid = toggle("ellipsoid", (event) => { this.options.ellipsoid = event.target.checked; this.redraw(true); });
    ellipsoid.firstChild.checked = true;
    const cells = toggle("2×2×2", (event) => {
      this.options.repeats = event.target.checked ? 2 : 1; this.redraw(false);
    });
    return el("div", { class: "controls" }, el("div", { class: "segments", role: "group", "aria-label": "Tensor" },
      this.segments), ellipsoid, cells);
  }

  show(crystal, fromUser) {
    this.crystal = crystal;
    // On a narrow screen the panel covers the page, so it opens when asked for.
    this.element.hidden = crystal === null || (!fromUser && this.covers());
    if (!this.element.hidden) this.refresh(false);
  }

  covers() { return getComputedStyle(this.element).position === "fixed"; }

  refresh(keepView) {
    const crystal = this.crystal;
    if (!crystal) return;
    if (!crystal.tensors[this.options.target]) this.options.target = Object.keys(crystal.tensors).at(-1) ?? null;
    const places = [crystal.crystal_system, isNumber(crystal.space_group) ? `space group\u00a0${crystal.space_group}` : null,
      isNumber(crystal.num_atoms) ? plural(crystal.num_atoms, "atom", "atoms") : null];
    this.head.replaceChildren(
      el("div", {}, el("h3", {}, formulaOf(crystal.formula)),
        el("p", {}, crystal.id, crystal.source && crystal.source !== crystal.id ? ` · ${crystal.source}` : ""),
        el("p", {}, places.filter(Boolean).join(" · "))),
      el("button", { type: "button", class: "quiet close", onclick: () => select(null) }, "Close"));
    this.save.hidden = !crystal.structure;
    this.warnings.replaceChildren(...crystal.warnings.map((text) => el("li", {}, text)));
    this.warnings.hidden = !crystal.warnings.length;
    this.element.classList.toggle("no-warnings", !crystal.warnings.length);
    for (const button of this.segments) {
      button.setAttribute("aria-pressed", String(button.dataset.target === this.options.target));
      button.hidden = !crystal.tensors[button.dataset.target];
    }
    this.legend.replaceChildren(...crystal.elements.map((symbol) =>
      el("span", {}, el("i", { style: `background:${elementColor(symbol)}` }), symbol)));
    const targets = this.wide ? content.targets.filter((target) => crystal.tensors[target]).reverse() : [this.options.target];
    this.tensor.replaceChildren(...targets.map((target) => tensorBlock(crystal.tensors[target], target, this.wide)));
    this.facts.replaceChildren(...factsOf(crystal).flatMap(([name, value]) => el("div", { class: String(value).length > 22 && !Array.isArray(value) ? "long" : null },
      el("dt", {}, name), el("dd", {}, value))));
    this.redraw(keepView);
  }

  redraw(keepView) {
    if (!this.crystal || this.element.hidden) return;
    const same = keepView && this.view.shown?.id === this.crystal.id;
    this.view.draw(this.crystal, this.options, same);
  }
}

function tensorBlock(tensor, target, titled) {
  if (!tensor) return el("p", { class: "hint" }, "no tensor");
  const cells = (row) => row.map((value) => el("td", {}, fixed(value, 2)));
  const direction = (axis) => `(${axis.map((value) => fixed(value, 2)).join(", ")})`;
  return el("div", { class: "tensor-block" }, titled ? el("h4", {}, target) : null,
    el("div", { class: "tensor" },
      el("table", { class: "matrix", "aria-label": `${target} tensor` }, tensor.tensor.map((row) => el("tr", {}, cells(row)))),
      el("dl", { class: "facts", style: "grid-template-columns:1fr" },
        el("div", {}, el("dt", {}, `mean ${target} permittivity`), el("dd", {}, withError(tensor.mean, tensor.mean_error, 2))),
        isNumber(tensor.tensor_error)
          ? el("div", {}, el("dt", {}, "error bar of the tensor"), el("dd", {}, `± ${fixed(tensor.tensor_error, 2)}`)) : null)),
    el("table", { class: "axes" },
      el("tr", {}, ["", "principal value", "principal axis (x, y, z)"].map((name) => el("th", {}, name))),
      tensor.principal.map((value, k) => el("tr", {}, el("td", {}, `ε${"₁₂₃"[k]}`), el("td", {}, fixed(value, 2)),
        el("td", {}, direction(tensor.axes[k]))))));
}

function factsOf(crystal) {
  const facts = [
    ["band gap", isNumber(crystal.band_gap) ? `${fixed(crystal.band_gap, 2)} eV` : content.kind === "screening" ? "unknown" : null],
    ["gap × ε", isNumber(crystal.figure_of_merit) ? `${fixed(crystal.figure_of_merit, 1)} eV` : null],
    ["energy above hull", isNumber(crystal.e_above_hull) ? `${fixed(crystal.e_above_hull, 3)} eV/atom` : null],
    ["refractive index", isNumber(crystal.refractive_index) ? fixed(crystal.refractive_index, 2) : null],
    ["distance to training set", isNumber(crystal.training_distance)
      ? `${fixed(crystal.training_distance, 2)} (${crystal.training_distance > 1 ? "outside" : "inside"})` : null],
    ["prototype", crystal.prototype],
    ["duplicate of", crystal.duplicate_of],
    ["tensor known by DFPT", crystal.labelled ? "yes" : null],
  ];
  const refined = crystal.refined;
  if (refined) {
    facts.push(["ionic, lattice dynamics", withError(refined.ionic_mean, refined.ionic_mean_error, 2)],
      ["total, lattice dynamics", withError(refined.total_mean, refined.total_mean_error, 2)],
      ["lowest mode at q = 0", isNumber(refined.lowest_frequency_thz) ? `${fixed(refined.lowest_frequency_thz, 2)} THz` : null]);
    for (const remark of refined.remarks ?? []) facts.push(["lattice dynamics", remark]);
  }
  return facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

/** Write the structure as POSCAR; atoms are listed element by element. */
function poscarOf(crystal) {
  const { lattice, species, positions } = crystal.structure;
  const symbols = [...new Set(species)], row = (values) => values.map((value) => value.toFixed(8)).join("  ");
  const comment = `${crystal.formula} ${crystal.id}`.replace(/[^\x20-\x7e]/g, "?");
  const lines = [comment, "1.0", ...lattice.map(row), symbols.join(" "),
    symbols.map((symbol) => species.filter((other) => other === symbol).length).join(" "), "Cartesian",
    ...symbols.flatMap((symbol) => positions.filter((_, index) => species[index] === symbol).map(row))];
  return lines.join("\n") + "\n";
}

function savePoscar(crystal) {
  const link = el("a", { href: URL.createObjectURL(new Blob([poscarOf(crystal)], { type: "text/plain" })),
    download: `${crystal.id.replace(/[^\w.-]+/g, "_")}.vasp` });
  link.click();
  // The browser reads the address a moment later.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
