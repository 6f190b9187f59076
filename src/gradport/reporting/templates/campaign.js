// The matrix of a campaign. Only the rows in view are in the page, so that 20,000 cases open and filter at once.
(() => {
  "use strict";
  const HEIGHT = 30;
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const [matrix, head, body, panel] = [at("matrix"), at("head"), at("body"), at("case")];
  const subjects = data.subjects.map((name, index) => ({ name, cells: new Map(), words: name.toLowerCase(), index }));
  for (const cell of data.cells) {
    const row = subjects[cell[0]];
    row.cells.set(cell[1], cell);
    if (cell[3]) row.words += "\n" + data.messages[cell[3]].toLowerCase();
  }
  let shown = subjects;

  const make = (tag, text, properties) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    return Object.assign(element, properties || {});
  };

  const fill = (select, names, counts) => {
    if (!select) return;
    names.forEach((name, index) => {
      if (counts[index]) select.append(make("option", `${name} (${counts[index]})`, { value: String(index) }));
    });
  };

  const count = (names, place) => {
    const counts = names.map(() => 0);
    for (const cell of data.cells) if (cell[place] >= 0) counts[cell[place]] += 1;
    return counts;
  };

  const header = () => {
    const line = make("tr");
    line.append(make("th", "subject", { scope: "col" }));
    for (const column of data.columns) line.append(make("th", column, { scope: "col" }));
    head.append(line);
  };

  const cellOf = (cell) => {
    const place = make("td");
    if (!cell) return place;
    const outcome = data.outcomes[cell[2]];
    const change = cell[4] >= 0 ? data.changes[cell[4]] : "";
    const button = make("button", change ? `${outcome}, ${change}` : outcome, {
      className: `badge ${outcome.replace(/ /g, "-")}`, type: "button",
    });
    if (change) button.classList.add(`is-${change}`);
    if (cell[3]) button.title = data.messages[cell[3]];
    button.addEventListener("click", () => show(cell));
    place.append(button);
    return place;
  };

  const draw = () => {
    const first = Math.max(Math.floor(matrix.scrollTop / HEIGHT) - 10, 0);
    const last = Math.min(first + Math.ceil(matrix.clientHeight / HEIGHT) + 20, shown.length);
    const space = (rows) => {
      const line = make("tr", undefined, { ariaHidden: "true" });
      line.append(make("td", "", { colSpan: data.columns.length + 1 }));
      line.firstChild.style.height = `${rows * HEIGHT}px`;
      line.className = "space";
      return line;
    };
    const lines = [space(first)];
    for (const row of shown.slice(first, last)) {
      const line = make("tr");
      line.append(make("th", row.name, { scope: "row", title: row.name }));
      data.columns.forEach((_, column) => line.append(cellOf(row.cells.get(column))));
      lines.push(line);
    }
    lines.push(space(shown.length - last));
    body.replaceChildren(...lines);
  };

  const filter = () => {
    const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcome = at("outcome").value;
    const change = at("change") ? at("change").value : "";
    const fits = (cell) => (outcome === "" || cell[2] === +outcome) && (change === "" || cell[4] === +change);
    shown = subjects.filter(
      (row) => words.every((word) => row.words.includes(word))
        && ((outcome === "" && change === "") || [...row.cells.values()].some(fits)),
    );
    at("shown").textContent = `${shown.length} of ${subjects.length} subjects`;
    matrix.scrollTop = 0;
    draw();
    draw(); // the first time the matrix had no height
  };

  const show = (cell) => {
    const outcome = data.outcomes[cell[2]];
    const lines = [make("h2", `${data.subjects[cell[0]]}: ${data.columns[cell[1]]}`)];
    const first = make("p");
    first.append(make("span", outcome, { className: `badge ${outcome.replace(/ /g, "-")}` }));
    if (cell[3]) first.append(` ${data.messages[cell[3]]}`);
    lines.push(first);
    const [seconds, processor, peak, figure, where, evidence, id, output, told, python] = cell[5];
    const facts = [`${seconds} s`, `${processor} s of processor time`, `${peak} MiB`];
    if (figure) facts.push(figure);
    if (where) facts.push(where);
    if (python) facts.push(python);
    lines.push(make("p", facts.join(" · ")));
    if (told) lines.push(make("p", told));
    if (output) lines.push(make("pre", output, { tabIndex: 0 }));
    const again = make("p", "Repeat it: ");
    again.append(make("code", `gradport campaign repeat ${data.store} ${id}`));
    lines.push(again);
    if (evidence) {
      const link = make("p");
      link.append(make("a", "Evidence", { href: `${data.folder}/${evidence}` }));
      lines.push(link);
    }
    panel.replaceChildren(...lines);
    panel.hidden = false;
    panel.scrollIntoView({ block: "nearest" });
  };

  fill(at("outcome"), data.outcomes, count(data.outcomes, 2));
  fill(at("change"), data.changes, count(data.changes, 4));
  header();
  at("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["find", "outcome", "change"]) if (at(id)) at(id).addEventListener("input", filter);
  matrix.addEventListener("scroll", draw, { passive: true });
  addEventListener("resize", draw);
  filter();
  document.documentElement.dataset.ready = "yes";
})();
