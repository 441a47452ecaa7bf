// Two things: which claims the overview shows, and where a number of a table comes from.
"use strict";

function filterClaims() {
  const filter = document.querySelector(".filter");
  if (!filter) return;
  const claims = [...document.querySelectorAll(".claim")];
  filter.hidden = false;
  filter.addEventListener("change", (event) => {
    const wanted = event.target.value;
    for (const claim of claims) claim.hidden = wanted !== "" && !claim.dataset.verdicts.split(" ").includes(wanted);
    filter.querySelector("output").textContent = `${claims.filter((claim) => !claim.hidden).length} of ${claims.length} claims`;
  });
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A list of [term, description]; empty descriptions are left out.
function terms(pairs) {
  const list = element("dl");
  for (const [term, description, code] of pairs) {
    if (description === undefined || description === null || description === "") continue;
    const shown = element("dd");
    shown.append(code ? element("code", description) : String(description));
    list.append(element("dt", term), shown);
  }
  return list;
}

const texts = (mapping) => Object.entries(mapping).map(([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
const blocks = (seeds) => seeds.map(([first, last]) => `${first}–${last}`).join(", ");
const span = (value) => (value.low === null ? "no interval: one block" : `${value.low} to ${value.high}`);

function measuredPart(row, key) {
  const value = row.values[key];
  return terms([
    ["value", value.value],
    ["95% interval", span(value)],
    ["blocks", `${value.n}, ${value.images.toLocaleString("en")} images together`],
    ["seeds", blocks(value.seeds)],
    ["evaluations", row.nfe ? `${row.nfe} of the network per image, counted` : ""],
    ["settings", texts(row.settings)],
  ]);
}

function recordPart(record, environments) {
  const known = record.environment !== undefined;
  const where = environments[known ? record.environment : 0];
  const kind = record.chunks ? "chunks of images" : known ? "record" : "record or chunks, not in this machine’s store; from its table:";
  const rate = record.images_per_second;
  const details = record.chunks ? [] : [
    ["commit", where.commit, true],
    ["device", where.device],
    ["packages", texts(where.packages)],
    ["made", known ? `${record.started}, ${record.seconds.toFixed(1)} s` : ""],
    ["speed", rate ? `${rate.toFixed(1)} images a second` : ""],
  ];
  return terms([["run", record.id, true], ["holds", kind], ...details]);
}

function showOrigin(button, data, dialog) {
  const { row: line, kind, key } = button.dataset;
  const row = data.rows[Number(line)];
  const base = data.rows.find((other) => other.label === data.baselines[row.label]);
  const body = document.getElementById("origin-body");
  const big = element("p", undefined, "big");
  big.append(...[...button.childNodes].map((node) => node.cloneNode(true)));
  document.getElementById("origin-title").textContent = row.label;
  body.replaceChildren(element("p", button.parentElement.dataset.title, "place"), big);
  if (kind.startsWith("paper")) {
    const printed = [["printed in the paper", row.paper[key]], ["its setting", texts(row.paper_settings)]];
    if (/(ratio|gain)$/.test(kind) && base) printed.push([`baseline, ${base.label}`, base.paper[key]]);
    body.append(terms(printed));
  } else {
    if (row.values[key]) body.append(measuredPart(row, key));
    if (kind.endsWith("ratio") && base && base.values[key]) {
      body.append(element("h3", `divided by: ${base.label}`), measuredPart(base, key));
    }
    if (row.reason) body.append(terms([["not run", row.reason]]));
    body.append(element("h3", row.records.length === 1 ? "Run" : `Runs (${row.records.length})`));
    for (const record of row.records) body.append(recordPart(record, data.environments), element("hr"));
    body.lastChild.remove();
  }
  dialog.showModal();
  dialog.scrollTop = 0;
}

// One stop of the Tab key for the whole table; arrows, Home and End move in it.
function moveByKeys(table) {
  const lines = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("button")]).filter((line) => line.length);
  const all = lines.flat();
  all.forEach((button, index) => { button.tabIndex = index ? -1 : 0; });
  table.addEventListener("focusin", ({ target }) => {
    if (all.includes(target)) all.forEach((button) => { button.tabIndex = button === target ? 0 : -1; });
  });
  table.addEventListener("keydown", (event) => {
    const y = lines.findIndex((line) => line.includes(event.target));
    if (y < 0 || event.altKey || event.metaKey) return;
    const x = lines[y].indexOf(event.target), column = event.target.closest("td").cellIndex;
    const inLine = (to) => lines[to]?.reduce((best, button) => (Math.abs(button.closest("td").cellIndex - column) < Math.abs(best.closest("td").cellIndex - column) ? button : best));
    const next = {
      ArrowLeft: () => lines[y][x - 1],
      ArrowRight: () => lines[y][x + 1],
      ArrowUp: () => inLine(y - 1),
      ArrowDown: () => inLine(y + 1),
      Home: () => (event.ctrlKey ? all[0] : lines[y][0]),
      End: () => (event.ctrlKey ? all.at(-1) : lines[y].at(-1)),
    }[event.key]?.();
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

function openOrigins() {
  const dialog = document.querySelector("dialog"), island = document.getElementById("origins");
  if (!dialog || !island) return;
  const data = JSON.parse(island.textContent);
  for (const table of document.querySelectorAll("table[role=grid]")) {
    moveByKeys(table);
    table.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) showOrigin(button, data, dialog);
    });
  }
  dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
}

filterClaims();
openOrigins();
