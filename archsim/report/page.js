"use strict";
// Tips: any element with data-tip, or data-op as an index into the list of ops; on hover and on focus.
const tip = document.getElementById("tip");
const ops = JSON.parse(document.getElementById("ops").textContent);
const about = (element) => {
  const target = element.closest && element.closest("[data-tip], [data-op]");
  return target && { target, text: target.dataset.tip || ops[target.dataset.op] };
};
function show(found, x, y) {
  tip.textContent = found.text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18) + "px";
}
document.addEventListener("pointermove", (event) => {
  const found = about(event.target);
  if (found) show(found, event.clientX, event.clientY); else tip.hidden = true;
});
document.addEventListener("focusin", (event) => {
  const found = about(event.target);
  if (!found) { tip.hidden = true; return; }
  const box = found.target.getBoundingClientRect();
  show(found, box.right, box.bottom - 18);
});
document.addEventListener("focusout", () => { tip.hidden = true; });
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

// Zoom: the canvas grows inside its scroller, about the middle of what is seen.
for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => {
    const scroller = button.closest(".zoom").nextElementSibling.querySelector(".scroll");
    const canvas = scroller.firstElementChild;
    const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / canvas.clientWidth;
    const factor = Number(button.dataset.zoom);
    const now = Number(canvas.dataset.scale || 1);
    const next = factor ? Math.min(64, Math.max(1, now * factor)) : 1;
    canvas.dataset.scale = next;
    canvas.style.width = 100 * next + "%";
    scroller.scrollLeft = middle * canvas.clientWidth - scroller.clientWidth / 2;
  });
}

// Tables: sorted by the value of a column, filtered by all words of a text.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const key = (row) => row.cells[column].dataset.v;
    const numeric = [...body.rows].every((row) => !isNaN(Number(key(row))) && key(row) !== "");
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = numeric ? (a, b) => key(a) - key(b) : (a, b) => key(a).localeCompare(key(b));
    body.append(...[...body.rows].sort((a, b) => (down ? -order(a, b) : order(a, b))));
  }));
  const search = table.closest("section").querySelector("input[type=search]");
  if (search) search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
