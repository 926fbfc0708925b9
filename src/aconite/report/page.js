"use strict";

// Theme: the reader's system decides until the button is pressed; then the choice is kept, where the browser lets a file keep things.
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("aconite-theme", value);
      return localStorage.getItem("aconite-theme");
    } catch {
      return null;
    }
  };
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  const choice = stored();
  if (choice === "dark" || choice === "light") root.dataset.theme = choice;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    stored(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();
  button.hidden = false;
}

// Tables: a column's head is a button that sorts ascending, then descending, then as written. Missing values stay last.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const order = new Intl.Collator("en", { numeric: true });

  const compare = (column) => (a, b) => {
    const [left, right] = [a.cells[column], b.cells[column]];
    if ("key" in left.dataset && "key" in right.dataset) return left.dataset.key - right.dataset.key;
    return order.compare(left.textContent, right.textContent);
  };
  const sort = (column, direction) => {
    const missing = written.filter((row) => "missing" in row.cells[column].dataset);
    const present = written.filter((row) => !missing.includes(row)).sort(compare(column));
    if (direction === "descending") present.reverse();
    body.append(...(direction ? [...present, ...missing] : written));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = { ascending: "descending", descending: null }[head.getAttribute("aria-sort") ?? ""];
      const next = direction === undefined ? "ascending" : direction;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      sort(column, next);
    });
  });
}
