"use strict";
// A crystal in 3D by 3Dmol.js: atoms, bonds, cell, and a tensor as an ellipsoid on its principal axes.

const BOND_TOLERANCE = 1.18; // of the sum of the covalent radii
const MOST_BONDED = 1500; // atoms; bonds of more are not searched
const BOUNDARY = 1e-3; // fractional; atoms on a face are drawn on the opposite one too

const add = (a, b) => a.map((value, k) => value + b[k]);
const scaled = (a, factor) => a.map((value) => value * factor);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const point = (a) => ({ x: a[0], y: a[1], z: a[2] });
const combine = (weights, rows) => rows.reduce((sum, row, k) => add(sum, scaled(row, weights[k])), [0, 0, 0]);

/** Rows of the inverse transposed: fractional coordinate k is dot(position, row k). */
function reciprocal(lattice) {
  const [a, b, c] = lattice;
  const volume = dot(a, cross(b, c));
  return [cross(b, c), cross(c, a), cross(a, b)].map((row) => scaled(row, 1 / volume));
}

/** List the atoms of `repeats`^3 cells, with those on the faces on both sides. */
function drawnAtoms(structure, repeats) {
  const rows = reciprocal(structure.lattice);
  const atoms = [];
  structure.positions.forEach((position, index) => {
    const choices = rows.map((row) => {
      let value = dot(position, row);
      value -= Math.floor(value + BOUNDARY);
      const images = Array.from({ length: repeats }, (_, k) => value + k);
      if (value < BOUNDARY) images.push(value + repeats);
      return images;
    });
    for (const u of choices[0]) for (const v of choices[1]) for (const w of choices[2]) {
      atoms.push({ symbol: structure.species[index], place: combine([u, v, w], structure.lattice) });
    }
  });
  return atoms;
}

function findBonds(atoms) {
  const bonds = atoms.map(() => []);
  if (atoms.length > MOST_BONDED) return bonds;
  const radii = atoms.map((atom) => content.radii[atom.symbol] ?? 1.5);
  const nonmetals = new Set(content.nonmetals);
  const isMetal = atoms.map((atom) => !nonmetals.has(atom.symbol)), onlyMetals = isMetal.every(Boolean);
  for (let i = 0; i < atoms.length; i++) {
    for (let j = i + 1; j < atoms.length; j++) {
      // Lines between metals hide the polyhedra of their anions.
      if (isMetal[i] && isMetal[j] && !onlyMetals) continue;
      const d = add(atoms[i].place, scaled(atoms[j].place, -1));
      const limit = BOND_TOLERANCE * (radii[i] + radii[j]);
      if (dot(d, d) < limit * limit) { bonds[i].push(j); bonds[j].push(i); }
    }
  }
  return bonds;
}

/** Triangles of an ellipsoid with semi-axes along unit vectors. */
function ellipsoidMesh(center, axes, semiAxes, rings = 24, sectors = 40) {
  const vertexArr = [], normalArr = [], faceArr = [];
  for (let ring = 0; ring <= rings; ring++) {
    for (let sector = 0; sector <= sectors; sector++) {
      const theta = (Math.PI * ring) / rings, phi = (2 * Math.PI * sector) / sectors;
      const unit = [Math.sin(theta) * Math.cos(phi), Math.sin(theta) * Math.sin(phi), Math.cos(theta)];
      const normal = combine(unit.map((value, k) => value / semiAxes[k]), axes);
      vertexArr.push(point(add(center, combine(unit.map((value, k) => value * semiAxes[k]), axes))));
      normalArr.push(point(scaled(normal, 1 / Math.sqrt(dot(normal, normal)))));
      if (ring < rings && sector < sectors) {
        const corner = ring * (sectors + 1) + sector, below = corner + sectors + 1;
        faceArr.push(corner, below, corner + 1, below, below + 1, corner + 1);
      }
    }
  }
  return { vertexArr, normalArr, faceArr };
}

const elementColor = (symbol) =>
  `#${($3Dmol.elementColors.Jmol[symbol] ?? 0x999999).toString(16).padStart(6, "0")}`;

/** The 3D view; one WebGL context serves all crystals. */
class StructureView {
  constructor(stage) {
    this.stage = stage;
    this.viewer = null;
    this.shown = null;
    new ResizeObserver(() => { if (this.viewer && stage.clientWidth) { this.viewer.resize(); } }).observe(stage);
  }

  /** Draw a crystal; `keepView` leaves the direction of sight. Returns whether something is drawn. */
  draw(crystal, { target, ellipsoid, repeats }, keepView) {
    this.stage.querySelector(".message")?.remove();
    this.shown = null;
    const structure = crystal.structure;
    if (!structure) return this.say(crystal.no_structure ?? "no structure");
    if (!this.viewer) {
      try {
        this.viewer = $3Dmol.createViewer(this.stage, { antialias: true, disableFog: true });
      } catch { this.viewer = null; }
      if (!this.viewer) return this.say("This browser cannot draw in 3D (WebGL is off).");
      this.viewer.setProjection("orthographic");
      // It would draw on a stage without size, where the panel is hidden.
      this.viewer.divwatcher?.disconnect();
    }
    const viewer = this.viewer, view = keepView ? viewer.getView() : null;
    // The stage may have another size since it was drawn on.
    viewer.resize();
    viewer.removeAllModels(); viewer.removeAllShapes(); viewer.removeAllLabels();
    viewer.setBackgroundColor(color("--raised"), 1);
    this.drawAtoms(structure, repeats);
    this.drawCell(structure.lattice, repeats);
    const tensor = crystal.tensors[target];
    const drawn = ellipsoid && tensor ? this.drawEllipsoid(structure.lattice, tensor, repeats) : false;
    if (view) viewer.setView(view);
    else {
      // c upwards, seen a little from above and from the side.
      viewer.zoomTo();
      const center = combine([repeats / 2, repeats / 2, repeats / 2], structure.lattice);
      viewer.setView([...scaled(center, -1), viewer.getView()[3], 0, 0, 0, 1]);
      viewer.rotate(-90, "vx"); viewer.rotate(-24, "vy"); viewer.rotate(10, "vx");
      this.fit(structure.lattice, repeats);
    }
    viewer.render();
    this.shown = { id: crystal.id, target, ellipsoid: drawn, atoms: this.numAtoms };
    this.stage.dataset.shown = JSON.stringify(this.shown);
    return true;
  }

  /** Zoom so that the cell with its labels, whose center is in the middle, fills the stage. */
  fit(lattice, repeats) {
    // Half of an atom and a label beyond the corners.
    const reach = [-0.08, 1.08].map((value) => value * repeats);
    const corners = reach.flatMap((u) => reach.flatMap((v) => reach.map((w) => point(combine([u, v, w], lattice)))));
    this.viewer.render();
    const places = this.viewer.modelToScreen(corners);
    const [width, height] = ["x", "y"].map((axis) => {
      const values = places.map((place) => place[axis]);
      return Math.max(...values) - Math.min(...values);
    });
    const ratio = Math.min(this.stage.clientWidth / width, this.stage.clientHeight / height);
    if (Number.isFinite(ratio)) this.viewer.zoom(0.94 * ratio);
  }

  say(text) {
    if (this.viewer) {
      this.viewer.removeAllModels(); this.viewer.removeAllShapes(); this.viewer.removeAllLabels(); this.viewer.render();
    }
    this.stage.append(el("div", { class: "message" }, text));
    delete this.stage.dataset.shown;
    return false;
  }

  drawAtoms(structure, repeats) {
    const atoms = drawnAtoms(structure, repeats), bonds = findBonds(atoms);
    this.numAtoms = atoms.length;
    const model = this.viewer.addModel();
    model.addAtoms(atoms.map((atom, index) => ({
      ...point(atom.place), elem: atom.symbol, serial: index, bonds: bonds[index], bondOrder: bonds[index].map(() => 1),
    })));
    for (const symbol of new Set(atoms.map((atom) => atom.symbol))) {
      const radius = 0.24 + 0.16 * (content.radii[symbol] ?? 1.4);
      model.setStyle({ elem: symbol }, {
        sphere: { radius, color: elementColor(symbol) }, stick: { radius: 0.09, color: elementColor(symbol) },
      });
    }
  }

  drawCell(lattice, repeats) {
    const line = color("--muted");
    const corner = (u, v, w) => combine([u * repeats, v * repeats, w * repeats], lattice);
    for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      for (const [start, end] of [[[0, u, v], [1, u, v]], [[u, 0, v], [u, 1, v]], [[u, v, 0], [u, v, 1]]]) {
        this.viewer.addCylinder({ start: point(corner(...start)), end: point(corner(...end)), radius: 0.035, color: line });
      }
    }
    lattice.forEach((vector, k) => this.label("abc"[k], add(scaled(vector, repeats), scaled(vector, 0.6 / Math.hypot(...vector))),
      "--muted"));
  }

  label(text, place, token) {
    this.viewer.addLabel(text, { position: point(place), fontSize: 17, bold: true, fontColor: color(token), backgroundOpacity: 0,
      showBackground: false, inFront: true, alignment: "center" });
  }

  /** Semi-axes are proportional to the principal values; the longest fits into the cell. */
  drawEllipsoid(lattice, tensor, repeats) {
    const sizes = tensor.principal.map(Math.abs), largest = Math.max(...sizes);
    if (!(largest > 1e-6)) return false;
    const volume = Math.abs(dot(lattice[0], cross(lattice[1], lattice[2])));
    const longest = 0.5 * repeats * Math.cbrt(volume);
    // A semi-axis of zero has no normals.
    const semiAxes = sizes.map((size) => Math.max(size / largest, 0.02) * longest);
    const center = combine([0.5 * repeats, 0.5 * repeats, 0.5 * repeats], lattice);
    const shade = color("--ellipsoid");
    this.viewer.addCustom({ ...ellipsoidMesh(center, tensor.axes, semiAxes), color: shade, opacity: 0.7 });
    tensor.axes.forEach((axis, k) => {
      const reach = scaled(axis, semiAxes[k] + 0.35);
      this.viewer.addCylinder({ start: point(add(center, scaled(reach, -1))), end: point(add(center, reach)),
        radius: 0.06, color: color("--accent"), fromCap: 2, toCap: 2 });
      this.label(`ε${"₁₂₃"[k]}`, add(center, scaled(axis, semiAxes[k] + 0.85)), "--accent");
    });
    return true;
  }
}
