"use strict";
// Shared parts of the page: content, elements, texts, colours of the theme, and the selected crystal.
// Texts from files are written as text, never as markup.

const content = JSON.parse(document.getElementById("content").textContent);
const crystalsById = new Map(content.crystals.map((crystal) => [crystal.id, crystal]));

/** Make an element; children are elements or texts. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "style") element.style.cssText = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Write a chemical formula with subscripts. */
function formulaOf(text) {
  return String(text ?? "").split(/(\d+(?:\.\d+)?)/).filter(Boolean)
    .map((part) => (/^\d/.test(part) ? el("sub", {}, part) : part));
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const thousands = (value) => Number(value).toLocaleString("en-US");

/** Write a number with as many decimals as make sense beside each other in a column. */
function fixed(value, decimals) {
  if (!isNumber(value)) return "–";
  const text = value.toFixed(decimals);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

function withError(value, error, decimals) {
  const parts = [fixed(value, decimals)];
  if (isNumber(error)) parts.push(el("span", { class: "error" }, ` ± ${fixed(error, decimals)}`));
  return parts;
}

const plural = (count, one, many) => `${thousands(count)}\u00a0${count === 1 ? one : many}`;

// Colours ---------------------------------------------------------------------------------------------------------

const themeListeners = [];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = name === "dark" ? "Light" : "Dark";
  themeListeners.forEach((listener) => listener());
}

/** Return a colour of the palette, such as "--training" or "--training/0.3" with an opacity. */
function color(token) {
  const [name, opacity] = token.split("/");
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  if (opacity === undefined) return hex;
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}

function startTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () =>
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
}

// Selection -------------------------------------------------------------------------------------------------------

const selectionListeners = [];
let selectedId = null;

/** Select a crystal of the table, or none; all parts of the page follow. */
function select(id, fromUser = true) {
  if (id !== null && !crystalsById.has(id)) return;
  selectedId = id;
  selectionListeners.forEach((listener) => listener(crystalsById.get(id) ?? null, fromUser));
}
