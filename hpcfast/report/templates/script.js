// Values under the mouse, or at the arrow keys, of each chart.
for (const svg of document.querySelectorAll(".chart svg")) {
  const tip = svg.parentElement.querySelector(".tip");
  const cursor = svg.querySelector(".cursor");
  const lines = [...svg.querySelectorAll("[data-points]")].map((group) => ({
    name: group.dataset.name, run: group.getAttribute("class"), points: JSON.parse(group.dataset.points),
  }));
  const stops = [...new Set(lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  let at = -1;

  const show = (index) => {
    at = Math.max(0, Math.min(stops.length - 1, index));
    const x = stops[at];
    cursor.setAttribute("d", `M${x},36V204`);
    tip.replaceChildren();
    for (const { name, run, points } of lines) {
      for (const [, , where, value] of points.filter((point) => Math.abs(point[0] - x) < 0.5)) {
        const row = document.createElement("span");
        row.className = run;
        row.textContent = `${value}  ${name} (${where})`;
        tip.append(row);
      }
    }
    tip.hidden = false;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("d", "");
  };
  svg.addEventListener("pointermove", (event) => {
    const { x } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    show(stops.reduce((best, stop, i) => (Math.abs(stop - x) < Math.abs(stops[best] - x) ? i : best), 0));
  });
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: stops.length - 1 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    show(move);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));
