"use strict";
(() => {
  const find = (name) => document.getElementById("units-" + name);
  const table = find("table"), form = find("sift"), more = find("more"), status = find("status"), region = find("region");
  const heads = [...table.tHead.rows[0].cells];
  const keys = heads.map((head) => head.dataset.key), kinds = heads.map((head) => head.dataset.kind);
  const total = Number(table.dataset.lines);
  let known = null, sorted = null, shown = 0;

  // Read at the first use only, so that a page of many units opens at once.
  const source = () => {
    if (known) return known;
    const data = JSON.parse(find("data").textContent);
    const lines = data.methods.flatMap((method, m) => {
      const units = [...method.deviation.keys()].filter((unit) => method.deviation[unit] !== null);
      units.sort((a, b) => Math.abs(method.deviation[b]) - Math.abs(method.deviation[a]));
      return units.map((unit, place) => ({ m, unit, place }));
    });
    lines.sort((a, b) => a.place - b.place || a.m - b.m);
    known = { data, lines };
    return known;
  };

  const value = (data, line, key) => {
    if (key in data.columns) return data.columns[key][line.unit];
    const method = data.methods[line.m];
    if (key === "method") return method.name;
    return key === "side" ? data.sides[method.side[line.unit]] : method[key][line.unit];
  };

  const written = (kind, it, decimals) => {
    if (it === null) return "not measured";
    if (typeof it === "string") return it;
    if (kind === "id") return it < 0 ? "any" : String(it);
    if (kind === "p") return it < 0.001 ? "< 0.001" : it.toFixed(3);
    return kind === "count" ? it.toLocaleString("en-US") : it.toFixed(decimals);
  };

  // A number is sought as a whole: 15 shall not find 153. Text is sought in part.
  const holds = (word, it) =>
    typeof it === "number" ? String(it) === word : it !== null && it.toLowerCase().includes(word);

  const wanted = (data) => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = (name) => (form.elements[name] ? form.elements[name].value : "");
    const [method, side, group] = ["method", "side", "group"].map(chosen);
    const told = form.elements.told.checked ? Number(form.elements.told.value) : 2;
    const ids = keys.filter((key) => ["unit", "user", "item"].includes(key) && key in data.columns);
    return (line) =>
      (method === "" || Number(method) === line.m) &&
      (side === "" || value(data, line, "side") === side) &&
      (group === "" || value(data, line, "group") === group) &&
      (told > 1 || (value(data, line, "q") ?? 2) <= told) &&
      words.every((word) => ids.some((key) => holds(word, value(data, line, key))));
  };

  // What was not measured comes last in either direction; ties keep the order of the page.
  const ordered = (data, lines) => {
    if (!sorted) return lines;
    const sign = sorted.down ? -1 : 1;
    const marked = lines.map((line) => [value(data, line, sorted.key), line]);
    const rank = (it) => (it === null || it === "" ? 2 : typeof it === "string" ? 1 : 0);
    marked.sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -sign : a > b ? sign : 0));
    return marked.map(([, line]) => line);
  };

  const row = (data, line) => {
    const made = document.createElement("tr");
    keys.forEach((key, place) => {
      const cell = document.createElement(place ? "td" : "th");
      if (!place) cell.scope = "row";
      cell.className = kinds[place];
      cell.textContent = written(kinds[place], value(data, line, key), data.decimals);
      made.append(cell);
    });
    return made;
  };

  const draw = (most) => {
    const { data, lines } = source();
    const found = ordered(data, lines.filter(wanted(data)));
    shown = Math.min(most, found.length);
    table.tBodies[0].replaceChildren(...found.slice(0, shown).map((line) => row(data, line)));
    const count = (n) => n.toLocaleString("en-US");
    status.textContent = found.length
      ? `Showing ${count(shown)} of ${count(found.length)} matching lines.`
      : "No line matches.";
    if (shown === found.length && document.activeElement === more) region.focus();
    more.hidden = shown === found.length;
  };

  const first = () => source().data.first;
  const sort = (head, key, kind) => {
    const once = sorted && sorted.key === key;
    sorted = { key, down: once ? !sorted.down : kind === "score" || kind === "count" };
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    draw(first());
    region.scrollTop = 0;
  };

  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head, keys[place], kinds[place]));
    head.replaceChildren(button);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => draw(first()));
  form.addEventListener("reset", () => {
    sorted = null;
    for (const head of heads) head.removeAttribute("aria-sort");
    // The fields are empty only after this event.
    setTimeout(() => draw(first()));
  });
  more.addEventListener("click", () => draw(shown + first()));
  form.hidden = false;
  more.hidden = total <= table.tBodies[0].rows.length;
})();
