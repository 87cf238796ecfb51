"use strict";
// Draws a journey as a sequence diagram. What it writes goes through textContent alone.

const SVG = "http://www.w3.org/2000/svg";
const LANES = [["user", "service user"], ["dcc", "DCC"], ["device", "device"]];

function svgElement(name, attributes, words) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (words !== undefined) element.textContent = words;
  return element;
}

function shortened(words, length) {
  return words.length > length ? words.slice(0, length - 1) + "…" : words;
}

function octetsText(count) {
  return count === 1 ? "1 octet" : `${count} octets`;
}

function sinceText(seconds) {
  return seconds < 10 ? `+${(seconds * 1000).toFixed(1)} ms` : `+${seconds.toFixed(2)} s`;
}

function stepDetail(step) {
  const facts = step.facts;
  const parts = [];
  if (step.octets) parts.push(octetsText(step.octets));
  for (const name of ["service", "code", "alert_code", "results", "check", "total_s"]) {
    if (facts[name]) parts.push(name === "total_s" ? `${facts[name]} s` : facts[name].replace(/^https?:\/\//, ""));
  }
  const time = ["dcc_s", "fault_s", "wan_s", "queue_s", "transfer_s", "han_s"].filter((name) => facts[name]);
  if (time.length) parts.push("(" + time.map((name) => `${name.slice(0, -2)} ${facts[name]}`).join(", ") + ")");
  if (facts.reason) parts.push(facts.reason);
  return parts.join(" · ");
}

function drawJourney(steps, width) {
  const row = 46, top = 40;
  const wide = Math.max(width, 430);
  const left = wide < 600 ? 66 : 78;
  const gap = (wide - left) / LANES.length;
  const x = Object.fromEntries(LANES.map(([name], index) => [name, left + gap * (index + 0.5)]));
  const height = top + row * steps.length + 20;
  const svg = svgElement("svg", { width: wide, height, viewBox: `0 0 ${wide} ${height}`, role: "img" });
  svg.append(svgElement("title", {}, `Sequence diagram of ${steps.length} steps; the list below says the same`));
  for (const [name, words] of LANES) {
    svg.append(svgElement("text", { class: "head", x: x[name], y: 20 }, words));
    svg.append(svgElement("line", { class: "lane", x1: x[name], x2: x[name], y1: 28, y2: height - 8 }));
  }
  steps.forEach((step, index) => {
    const y = top + row * index + 28;
    const group = svgElement("g", { class: step.failed ? "failed" : "" });
    group.append(svgElement("text", { class: "time", x: left - 10, y: y + 4 }, sinceText(step.t - steps[0].t)));
    const inside = step.from === step.to;
    const between = (x[step.from] + x[step.to]) / 2;
    const room = inside ? gap * 1.7 : Math.abs(x[step.from] - x[step.to]) * 1.25;
    const titleText = shortened(step.title, Math.floor(room / 6.6));
    const detailText = shortened(stepDetail(step), Math.floor(room / 5.6));
    // A strip behind the words keeps the life line from striking them through.
    const strip = Math.max(titleText.length * 6.8, inside ? detailText.length * 5.8 : 0) + 8;
    group.append(svgElement("rect", { class: "back", x: between - strip / 2, y: y - 18, width: strip, height: inside ? 32 : 15 }));
    if (!inside) drawArrow(group, x[step.from], x[step.to], y, step);
    group.append(svgElement("text", { class: "title", x: between, y: inside ? y : y - 6 }, titleText));
    const detail = svgElement("text", { class: "detail", x: between, y: y + 13 }, detailText);
    detail.append(svgElement("title", {}, `${step.title}: ${stepDetail(step)}`));
    group.append(detail);
    svg.append(group);
  });
  return svg;
}

function drawArrow(group, from, to, y, step) {
  const way = Math.sign(to - from);
  const lost = step.failed && (step.event === "network" || step.event === "post");
  const end = lost ? from + (to - from) * 0.8 : to;
  group.append(svgElement("line", { class: "arrow", x1: from, x2: end - (lost ? 0 : way * 6), y1: y, y2: y }));
  if (lost) {
    group.append(svgElement("path", { class: "arrow", d: `M${end - 5} ${y - 5}l10 10m0 -10l-10 10` }));
  } else {
    group.append(svgElement("path", { class: "tip", d: `M${end} ${y}l${-way * 9} -5v10z` }));
  }
}
