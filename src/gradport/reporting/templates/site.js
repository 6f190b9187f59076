"use strict";
(function () {
  const html = document.documentElement;
  const make = (tag, text) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text });

  // light, dark, or as the system has it
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("gradport-theme"); } catch { return null; } };
  const theme = (name) => {
    html.dataset.theme = name;
    button.textContent = "Theme: " + name;
    try { localStorage.setItem("gradport-theme", name); } catch { /* a page from a disk may keep nothing */ }
  };
  theme(themes.includes(stored()) ? stored() : "auto");
  button.hidden = false;
  button.addEventListener("click", () => theme(themes[(themes.indexOf(html.dataset.theme) + 1) % themes.length]));

  // tables: sort by a column, filter by text and outcome
  const order = new Intl.Collator(undefined, { numeric: true });
  const number = (text) => (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?![\w.])/i.test(text) ? parseFloat(text) : NaN);
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
  };
  const shown = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");

  for (const table of document.querySelectorAll("table.searchable")) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const sorter = make("button", head.textContent);
      sorter.type = "button";
      head.replaceChildren(sorter);
      sorter.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        rows.sort((a, b) => (descending ? -1 : 1) * compare(shown(a, column), shown(b, column)));
        body.append(...rows);
      });
    });

    const bar = make("div");
    bar.className = "filter";
    const word = make("input");
    word.type = "search";
    const byWord = make("label", "Filter ");
    byWord.append(word);
    const outcome = make("select");
    const outcomes = new Set(rows.map((row) => row.querySelector(".badge")).filter(Boolean).map((b) => b.textContent));
    for (const name of ["every outcome", ...outcomes]) outcome.append(make("option", name));
    const byOutcome = make("label", "Outcome ");
    byOutcome.append(outcome);
    const count = make("output");
    bar.append(byWord, ...(outcomes.size > 1 ? [byOutcome] : []), count);
    table.closest(".scroll").before(bar);
    const filter = () => {
      const wanted = word.value.toLowerCase().split(/\s+/).filter(Boolean);
      let visible = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const badge = row.querySelector(".badge");
        const fits = outcome.selectedIndex < 1 || (badge && badge.textContent === outcome.value);
        row.hidden = !(fits && wanted.every((part) => text.includes(part)));
        visible += !row.hidden;
      }
      count.textContent = visible + " of " + rows.length;
    };
    word.addEventListener("input", filter);
    outcome.addEventListener("change", filter);
    filter();
  }

  // what a link points at is shown, and paper shows everything
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });

  // search over the site
  const search = document.getElementById("search");
  const pages = window.GRADPORT_SEARCH;
  if (!search || !pages) return;
  search.hidden = false;
  const query = document.getElementById("query");
  const found = document.getElementById("found");
  const known = pages.map(([title, path, summary, words]) => ({
    title, path, summary, name: title.toLowerCase(), text: (title + " " + path + " " + summary + " " + words).toLowerCase(),
  }));
  query.addEventListener("input", () => {
    const wanted = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = known.filter((page) => wanted.every((part) => page.text.includes(part)));
    hits.sort((a, b) => b.name.includes(wanted[0]) - a.name.includes(wanted[0]));
    found.replaceChildren(...hits.slice(0, 30).map((page) => {
      const item = make("li");
      const link = make("a", page.title);
      link.href = html.dataset.root + page.path.split("/").map(encodeURIComponent).join("/");
      item.append(link, make("small", page.summary || page.path));
      return item;
    }));
    if (!hits.length) found.replaceChildren(make("li", "Nothing is called that."));
    found.hidden = !wanted.length;
  });
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    const first = found.querySelector("a");
    if (first) location.href = first.href;
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") found.hidden = true;
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
      event.preventDefault();
      query.focus();
    }
  });
})();
