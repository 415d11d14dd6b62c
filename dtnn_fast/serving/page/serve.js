"use strict";
// The page of dtnn-fast serve: files, texts and examples go to the service; its answer is shown, or what is wrong.

const byId = (id) => document.getElementById(id);
const PARTS = ["structure", "axes", "neighbors", ...(content.has_born_charges ? ["born_charges"] : []),
  ...(content.can_refine ? ["refined"] : [])];
let panel = null;
let answer = null;
let asked = null;

/** Make the entry of a crystal, as the scripts of the reports know it, from a result of the service. */
function entryOf(result, rank) {
  const ids = new Set(content.crystals.map((crystal) => crystal.id));
  let id = result.id;
  for (let count = 2; ids.has(id); count++) id = `${result.id}#${count}`;
  const species = result.atomic_numbers.map((number) => content.symbols[number]);
  return {
    ...result, id, rank, source: result.name, codes: result.warning_codes, elements: [...new Set(species)].sort(),
    structure: { lattice: result.lattice_vectors, species, positions: result.positions },
    tensors: Object.fromEntries(Object.entries(result.tensors).map(([target, tensor]) =>
      [target, { ...tensor, principal: tensor.principal_values, axes: tensor.principal_axes }])),
  };
}

function say(text) { byId("progress").textContent = text; }

function complain(title, lines) {
  const problem = byId("problem");
  problem.replaceChildren(el("h3", {}, title), lines.length === 1 ? el("p", {}, lines[0])
    : el("ul", {}, lines.map((line) => el("li", {}, line))));
  problem.hidden = !lines.length;
}

/** Send files, {name, blob} each, and show the answer. */
async function predict(files, format = "") {
  asked?.abort();
  const mine = asked = new AbortController();
  complain("", []);
  const size = files.reduce((sum, file) => sum + file.blob.size, 0), { max_bytes: most, max_crystals: mostFiles } = content.limits;
  if (files.length > mostFiles) return complain("Too many files", [`Up to ${thousands(mostFiles)} at once, got ${thousands(files.length)}.`]);
  if (size > most) return complain("Too large", [`Up to ${megabytes(most)} at once, got ${megabytes(size)}.`]);
  const form = new FormData();
  for (const file of files) form.append("files", file.blob, file.name);
  for (const part of PARTS) form.append("include", part);
  if (format) form.append("format", format);
  say(files.length === 1 ? `Predicting ${files[0].name} …` : `Predicting ${thousands(files.length)} files …`);
  byId("predict").disabled = true;
  try {
    const response = await fetch("v1/predict", { method: "POST", body: form, signal: mine.signal });
    const told = await response.json();
    if (mine !== asked) return;
    if (response.ok) show(told);
    else complain("The service refused the request", [told.error.message]);
    if (!response.ok) say("");
  } catch (error) {
    if (mine !== asked || error.name === "AbortError") return;
    say("");
    complain("The service does not answer", ["Is it still running, and is the network there? Try again in a moment."]);
  } finally {
    if (mine === asked) byId("predict").disabled = false;
  }
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

function show(told) {
  answer = told;
  content.crystals = [];
  for (const result of told.results) {
    if (result.status === "predicted") content.crystals.push(entryOf(result, content.crystals.length + 1));
  }
  crystalsById.clear();
  for (const crystal of content.crystals) crystalsById.set(crystal.id, crystal);
  const refused = told.results.filter((result) => result.status === "rejected");
  complain(`${plural(refused.length, "crystal has", "crystals have")} no prediction`,
    refused.map((result) => `${result.id && result.id !== result.name ? `${result.name} (${result.id})` : result.name}: ${result.reason}`));
  say(told.predicted ? `${plural(told.predicted, "crystal", "crystals")} predicted.` : "");
  const results = byId("results");
  results.hidden = !content.crystals.length;
  if (results.hidden) return;
  selectionListeners.length = 0;
  const alone = content.crystals.length === 1;
  const table = alone ? null : new CrystalTable();
  panel ??= new CrystalPanel(alone);
  panel.wide = alone;
  panel.element.classList.toggle("wide", alone);
  const more = el("div", { class: "more", id: "more" });
  selectionListeners.length = 0;
  if (table) selectionListeners.push((crystal) => table.mark(crystal));
  selectionListeners.push((crystal, fromUser) => panel.show(crystal, fromUser), (crystal) => showMore(more, crystal));
  results.replaceChildren(
    el("div", { class: "results-head" }, el("h2", {}, alone ? "Prediction" : "Predictions"),
      el("div", { class: "controls" },
        el("button", { type: "button", class: "quiet", id: "save-json", onclick: saveJson }, "Save JSON"),
        el("button", { type: "button", class: "quiet", id: "save-csv", onclick: saveCsv }, "Save CSV"))),
    el("div", { class: `shortlist${alone ? " alone" : ""}` }, table?.element, panel.element), more);
  select(content.crystals[0].id, alone);
  results.focus({ preventScroll: true });
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  results.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function showMore(more, crystal) {
  const cards = crystal ? [neighborsCard(crystal), chargesCard(crystal)].filter(Boolean) : [];
  more.replaceChildren(...cards);
  more.hidden = !cards.length;
}

function listed(caption, names, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", {},
    el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", {}, value)))))));
}

function neighborsCard(crystal) {
  if (!crystal.neighbors?.length) return null;
  const rows = crystal.neighbors.map((neighbor) => [formulaOf(neighbor.formula), neighbor.id, fixed(neighbor.distance, 2),
    ...["electronic", "ionic", "total"].map((target) => fixed(neighbor.means[target], 2))]);
  return el("div", { class: "card", id: "neighbors" }, el("h3", {}, "Labelled crystals most like ", formulaOf(crystal.formula)),
    el("p", { class: "note" }, "Nearest in the latent space of the encoder, with mean permittivities by density-functional " +
      "perturbation theory. 99 % of the training crystals have another one within the distance 1."),
    listed("Nearest labelled crystals", ["crystal", "id", "distance", "electronic", "ionic", "total"], rows));
}

function chargesCard(crystal) {
  if (!crystal.born_charges) return null;
  const trace = (matrix) => (matrix[0][0] + matrix[1][1] + matrix[2][2]) / 3;
  const rows = crystal.born_charges.map((matrix, atom) => [`${atom + 1} ${crystal.structure.species[atom]}`, fixed(trace(matrix), 2),
    ...matrix.map((row, k) => fixed(row[k], 2))]);
  return el("div", { class: "card", id: "charges" }, el("h3", {}, "Born effective charges of ", formulaOf(crystal.formula)),
    el("p", { class: "note" }, "In units of e: a third of the trace, and the diagonal. Save JSON has all nine elements."),
    listed("Born effective charges", ["atom", "mean", "xx", "yy", "zz"], rows));
}

function save(name, type, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  // The browser reads the address a moment later.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveJson() { save("dielectric.json", "application/json", JSON.stringify(answer, null, 1)); }

function saveCsv() {
  const elements = [["xx", 0, 0], ["yy", 1, 1], ["zz", 2, 2], ["yz", 1, 2], ["xz", 0, 2], ["xy", 0, 1]];
  const columns = ["id", "name", "formula", "crystal_system", "space_group", "num_atoms", "refractive_index", "training_distance"];
  const header = [...columns, ...content.targets.flatMap((target) => [...elements.map(([name]) => `${target}_${name}`),
    `${target}_mean`, `${target}_mean_error`, `${target}_tensor_error`]), "refined_ionic_mean", "refined_total_mean", "warnings"];
  const rows = content.crystals.map((crystal) => [...columns.map((name) => crystal[name]),
    ...content.targets.flatMap((target) => {
      const tensor = crystal.tensors[target];
      return [...elements.map(([, i, j]) => tensor.tensor[i][j]), tensor.mean, tensor.mean_error, tensor.tensor_error];
    }), crystal.refined?.ionic_mean, crystal.refined?.total_mean, crystal.warnings.join("; ")]);
  // A text that begins like a formula is one for spreadsheets, unless a quote stands in front.
  const cell = (value) => {
    if (typeof value !== "string") return String(value ?? "");
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  save("dielectric.csv", "text/csv", [header, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n");
}

function startForm() {
  const { max_atoms: atoms, max_bytes: bytes, max_crystals: crystals } = content.limits;
  byId("taken").textContent = "CIF, POSCAR, extended XYZ, JSON of pymatgen, OPTIMADE, JARVIS or ASE, CSV with structures. " +
    `Up to ${thousands(crystals)} crystals of ${thousands(atoms)} atoms, ${megabytes(bytes)} in all.`;
  byId("format").append(...content.formats.map(([value, name]) => el("option", { value }, name)));
  byId("examples").append(...content.examples.map((example) => el("button", { type: "button", class: "quiet", title: example.name,
    onclick: () => { byId("text").value = example.text; byId("format").value = "";
      predict([{ name: `${example.id}.vasp`, blob: new Blob([example.text]) }]); } }, formulaOf(example.formula), ` ${example.label}`)));
  const drop = byId("drop"), files = byId("files");
  const send = (list) => { if (list.length) predict([...list].map((file) => ({ name: file.name, blob: file }))); };
  files.addEventListener("change", () => { send([...files.files]); files.value = ""; });
  // Files that are dropped beside the field must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => { drop.classList.remove("over"); send([...event.dataTransfer.files]); });
  byId("paste").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("text").value;
    if (!text.trim()) return complain("There is no text", ["Paste the text of a CIF, POSCAR or another file of a crystal."]);
    predict([{ name: "pasted", blob: new Blob([text]) }], byId("format").value);
  });
}

function start() {
  startTheme();
  startForm();
  byId("foot").append(
    el("p", {}, `dtnn-fast ${content.version}, model ${content.model}. Tensors are relative permittivities in the Cartesian frame of the ` +
      "lattice vectors; error bars hold for nine of ten crystals. The model is not valid for metals."),
    el("p", {}, el("a", { href: "docs" }, "REST interface"), " · ", el("a", { href: "openapi.json" }, "OpenAPI"),
      " · Structures by 3Dmol.js (BSD-3-Clause, © University of Pittsburgh and contributors)."),
    el("details", {}, el("summary", {}, "Licence of 3Dmol.js"), el("pre", {}, byId("licence-3dmol").textContent)));
  document.body.dataset.ready = "true";
}

start();
