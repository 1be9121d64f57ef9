"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const percent = (share) => (share === null ? "–" : (100 * share).toFixed(1) + " %");
  const shown = (value) => String(Number(value.toPrecision(4)));

  // Each position of the slider is a threshold whose counts were taken on all rows; only coverage, error and cost are computed here.
  const explorer = byId("explorer");
  if (explorer) {
    const { n, points, recommended } = JSON.parse(byId("points").textContent);
    const slider = byId("threshold");
    const cost = (point) => {
      const [, accepted, wrong] = point;
      return (wrong * Number(byId("cost-error").value) + (n - accepted) * Number(byId("cost-review").value)) / n;
    };
    const show = () => {
      const [threshold, accepted, wrong, low, high] = points[Number(slider.value)];
      byId("threshold-value").textContent = shown(threshold);
      slider.setAttribute("aria-valuetext", `confidence ${shown(threshold)}, ${percent(accepted / n)} of rows accepted`);
      byId("accepted").textContent = `${accepted} of ${n}`;
      byId("coverage").textContent = percent(accepted / n);
      byId("error").textContent = accepted ? `${percent(wrong / accepted)} (${wrong})` : "–";
      byId("interval").textContent = accepted ? `${percent(low)} – ${percent(high)}` : "–";
      byId("cost").textContent = shown(cost(points[Number(slider.value)]));
    };
    const go = (index) => {
      slider.value = index;
      show();
    };
    slider.max = points.length - 1;
    slider.addEventListener("input", show);
    byId("cost-error").addEventListener("input", show);
    byId("cost-review").addEventListener("input", show);
    byId("to-recommended").addEventListener("click", () => go(recommended));
    byId("to-cheapest").addEventListener("click", () => {
      const costs = points.map(cost);
      go(costs.indexOf(Math.min(...costs)));
    });
    explorer.addEventListener("submit", (event) => event.preventDefault());
    explorer.hidden = false;
    go(recommended === null ? 0 : recommended);
  }

  // Sort by a cell's data-value as a number, or else by its text; unknown values come last.
  const key = (cell) => {
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent.trim().toLowerCase();
    return value === "" ? null : Number(value);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
        rows.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : (falling ? -1 : 1) * compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const input of document.querySelectorAll("input[data-filter]")) {
    input.parentElement.hidden = false;
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of byId(input.dataset.filter).tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
  }
})();
