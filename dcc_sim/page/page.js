"use strict";
// Asks the admin interface once a second and shows what it says. Text from outside is never HTML.

const API = "/admin/v1";
const TOKEN_KEY = "dcc-sim-token";
const PAUSE_MS = 1000;
const MAX_ROWS = 500;
const MAX_OTHERS = 100;
const MESSAGE_FAULTS = ["drop", "corrupt", "delay", "duplicate"];

const state = {
  token: sessionStorage.getItem(TOKEN_KEY),
  began: null, number: 0, journeys: new Map(), others: [],
  chosen: null, shown: null, drawnWidth: 0, timer: null, polling: false, again: false, open: new Set(),
};

const $ = (id) => document.getElementById(id);

function element(name, { words, className, title } = {}, ...children) {
  const made = document.createElement(name);
  if (words !== undefined) made.textContent = words;
  if (className) made.className = className;
  if (title) made.title = title;
  made.append(...children);
  return made;
}

class WrongToken extends Error {}

async function call(method, path, body) {
  const response = await fetch(API + path, {
    method, cache: "no-store",
    headers: { Authorization: `Bearer ${state.token}` },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) throw new WrongToken("This is not the token. Look into the token file again.");
  const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
  if (response.status === 404 && !isJson) {
    throw new WrongToken("This simulator has no admin interface: set admin_token_file in its configuration.");
  }
  if (response.status === 204) return null;
  const answer = isJson ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(answer.error || `HTTP ${response.status}`);
  return answer;
}

// The door

function showDoor(words) {
  clearTimeout(state.timer);
  state.token = null;
  sessionStorage.removeItem(TOKEN_KEY);
  $("house").hidden = true;
  $("leave").hidden = true;
  $("door").hidden = false;
  $("door-error").textContent = words;
  $("connection").textContent = "not connected";
  $("token").value = "";
  $("token").focus();
}

async function enter() {
  try {
    const news = await call("GET", "/journeys?since=0");
    sessionStorage.setItem(TOKEN_KEY, state.token);
    $("door").hidden = true;
    $("house").hidden = false;
    $("leave").hidden = false;
    startAnew(news.began);
    await poll();
  } catch (error) {
    showDoor(error instanceof WrongToken ? error.message : `The simulator cannot be reached: ${error.message}`);
  }
}

function startAnew(began) {
  state.began = began;
  state.number = 0;
  state.journeys.clear();
  state.others = [];
  state.shown = null;
}

// Asking

async function poll() {
  clearTimeout(state.timer);
  if (state.polling) {
    state.again = true; // two at a time would both count the same news
    return;
  }
  state.polling = true;
  // While the DCC restarts, requests wait in its queue.
  const slow = setTimeout(() => {
    $("connection").textContent = "no answer yet";
    $("connection").className = "wait";
  }, PAUSE_MS);
  try {
    await refresh();
    $("connection").textContent = `connected, ${clock(Date.now() / 1000)}`;
    $("connection").className = "good";
  } catch (error) {
    if (error instanceof WrongToken) return showDoor(error.message);
    $("connection").textContent = `not reachable, trying again: ${error.message}`;
    $("connection").className = "bad";
  } finally {
    clearTimeout(slow);
    state.polling = false;
  }
  if (state.token) state.timer = setTimeout(poll, state.again ? 0 : PAUSE_MS);
  state.again = false;
}

async function refresh() {
  let news = await call("GET", `/journeys?since=${state.number}`);
  if (news.began !== state.began) {
    startAnew(news.began);
    news = await call("GET", "/journeys?since=0");
  }
  const [quarantine, faults] = [await call("GET", "/quarantine"), await call("GET", "/faults")];
  state.number = news.number;
  for (const journey of news.journeys) state.journeys.set(journey.reference, journey);
  dropOldest();
  state.others = state.others.concat(news.others).slice(-MAX_OTHERS);
  showCounters(news, quarantine.quarantine, faults);
  if (news.journeys.length) showJourneys();
  showQuarantine(quarantine.quarantine);
  showFaults(faults);
  if (news.others.length) showOthers();
  await showJourney();
}

function dropOldest() {
  if (state.journeys.size <= MAX_ROWS) return;
  for (const old of newestFirst().slice(MAX_ROWS)) state.journeys.delete(old.reference);
}

function newestFirst() {
  return [...state.journeys.values()].sort((one, other) => other.changed - one.changed);
}

async function act(action, button) {
  if (button) button.disabled = true;
  try {
    await action();
    $("notice").hidden = true;
  } catch (error) {
    if (error instanceof WrongToken) return showDoor(error.message);
    $("notice").textContent = error.message;
    $("notice").hidden = false;
  } finally {
    if (button) button.disabled = false;
  }
  await poll();
}

// Showing

function showCounters(news, quarantine, faults) {
  const rows = [
    ["under way", news.under_way], ["messages kept", news.kept], ["in quarantine", quarantine.length],
    ["faults waiting", faults.armed.length + faults.hubs_down.length], ...Object.entries(news.counters),
  ];
  $("counters").replaceChildren(...rows.map(([name, value]) =>
    element("div", {}, element("dt", { words: name }), element("dd", { words: String(value) }))));
}

function clock(t) {
  return new Date(t * 1000).toLocaleTimeString("en-GB");
}

function counterOf(reference) {
  return reference.includes(":") ? reference.slice(reference.lastIndexOf(":") + 1) : reference;
}

function nameOf(journey) {
  return `${journey.is_alert ? "Alert ↑" : "Request ↓"} ${counterOf(journey.reference)}`;
}

function wayOf(journey) {
  const euis = journey.reference.split(":").slice(0, -1);
  return euis.flatMap((eui, index) => [index ? " → " : "", element("span", { words: eui, className: "eui" })]);
}

function standing(journey) {
  if (journey.failed) return "bad";
  return journey.finished ? "good" : "wait";
}

function isWanted(journey) {
  const words = $("filter").value.trim().toLowerCase();
  const text = `${journey.reference} ${journey.state}`.toLowerCase();
  return (!words || text.includes(words))
    && (!$("only-under-way").checked || !journey.finished)
    && (!$("only-failed").checked || journey.failed);
}

function showJourneys() {
  const list = $("journeys");
  const focused = document.activeElement && document.activeElement.dataset.reference;
  const wanted = newestFirst().filter(isWanted);
  list.replaceChildren(...wanted.map((journey) => {
    const button = element("button", {},
      element("span", { className: "top" },
        element("span", { words: nameOf(journey), className: "kind" }),
        element("span", { words: clock(journey.ended), className: "when" })),
      element("span", { words: journey.state || "-", className: standing(journey) }),
      element("span", { className: "who" }, ...wayOf(journey)));
    button.type = "button";
    button.dataset.reference = journey.reference;
    if (journey.reference === state.chosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choose(journey.reference));
    return element("li", {}, button);
  }));
  $("journeys-empty").hidden = wanted.length > 0;
  $("journeys-empty").textContent = state.journeys.size ? "None of the messages is like this." : "Nothing was sent yet.";
  if (focused) {
    for (const button of list.querySelectorAll("button")) {
      if (button.dataset.reference === focused) button.focus({ preventScroll: true });
    }
  }
}

function choose(reference) {
  state.chosen = reference;
  state.shown = null;
  state.open.clear();
  for (const button of $("journeys").querySelectorAll("button")) {
    if (button.dataset.reference === reference) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  act(async () => {
    await showJourney();
    $("journey-title").focus({ preventScroll: true });
    if (matchMedia("(max-width: 50rem)").matches) $("journey-section").scrollIntoView();
  });
}

async function showJourney() {
  const known = state.journeys.get(state.chosen);
  if (!known || (state.shown && state.shown.changed === known.changed)) return;
  const journey = await call("GET", `/journeys/${encodeURIComponent(known.reference)}`);
  if (journey.reference !== state.chosen) return;
  state.shown = journey;
  $("journey-empty").hidden = true;
  $("journey").hidden = false;
  $("journey-title").textContent = nameOf(journey);
  $("journey-who").replaceChildren(...wayOf(journey));
  const omitted = journey.omitted ? `; ${journey.omitted} steps before these are no longer kept` : "";
  $("journey-facts").textContent =
    `${journey.state || "-"}, ${journey.step_count} ${journey.step_count === 1 ? "step" : "steps"} in ${sinceText(journey.ended - journey.began).slice(1)}${omitted}`;
  $("journey-facts").className = standing(journey);
  redraw();
  $("steps").replaceChildren(...journey.steps.map((step) => stepItem(step, journey.steps[0].t)));
}

function redraw() {
  if (!state.shown) return;
  state.drawnWidth = $("diagram").clientWidth;
  $("diagram").replaceChildren(drawJourney(state.shown.steps, state.drawnWidth));
}

function stepItem(step, began) {
  const facts = Object.entries(step.facts).map(([name, value]) => `${name} ${value}`).join(", ");
  const way = step.from === step.to ? step.from : `${step.from} → ${step.to}`;
  const words = `${sinceText(step.t - began)}  ${way}: ${step.title}${step.octets ? `, ${octetsText(step.octets)}` : ""}`;
  const item = element("li", {}, element("span", { words, className: step.failed ? "bad" : "" }));
  if (facts) item.append(element("span", { words: facts, className: "mono" }));
  if (step.content) {
    const content = element("pre", { words: step.event === "duis" ? step.content.replaceAll("><", ">\n<") : step.content });
    content.tabIndex = 0;
    const details = element("details", {}, element("summary", { words: step.event === "duis" ? "XML" : "octets" }), content);
    details.open = state.open.has(step.number);
    details.addEventListener("toggle", () => details.open ? state.open.add(step.number) : state.open.delete(step.number));
    item.append(details);
  }
  return item;
}

// Lists that are shown again each second are replaced only when they differ: focus stays.
function replaceIfNew(list, rows, make) {
  const key = JSON.stringify(rows);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...rows.map(make));
}

function actionButton(words, label, action, className) {
  const button = element("button", { words, className });
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => act(action, button));
  return button;
}

function showQuarantine(held) {
  $("quarantine-empty").hidden = held.length > 0;
  replaceIfNew($("quarantine"), held, (one) => {
    const path = `/quarantine/${one.event_reference}`;
    const name = `event ${one.event_reference}`;
    const look = actionButton("Show", `Show the journey of ${name}`, async () => choose(one.request_id));
    return element("li", {},
      element("strong", { words: name }), element("span", { words: ` since ${clock(one.since)}`, className: "dim" }),
      element("span", { words: `, request ${counterOf(one.request_id)}` }),
      element("span", { className: "mono" }, ...wayOf({ reference: one.request_id })),
      element("p", { className: "buttons" },
        actionButton("Release", `Release ${name}`, () => call("POST", `${path}/release`)),
        actionButton("Discard", `Discard ${name}`, () => call("POST", `${path}/discard`), "danger"), look));
  });
}

function showFaults(faults) {
  const rows = [...faults.armed, ...faults.hubs_down.map((hub) => ({ hub }))];
  $("armed-empty").hidden = rows.length > 0;
  $("cancel-all").hidden = faults.armed.length === 0;
  replaceIfNew($("armed"), rows, (one) => {
    if (one.hub !== undefined) {
      return element("li", {}, element("strong", { words: "hub down" }), element("span", { words: one.hub, className: "mono" }),
        element("p", { className: "buttons" }, actionButton("Bring it up", `Bring the hub ${one.hub} up`,
          () => call("POST", "/faults", { kind: "hub-up", hub: one.hub }))));
    }
    const late = one.delay_s === null ? "" : ` by ${one.delay_s} s`;
    return element("li", {}, element("strong", { words: `${one.kind} the next ${one.left} on the hop ${one.hop}${late}` }),
      element("span", { words: `fault ${one.fault_id}, ${one.entity_id || "anybody's"}`, className: "mono" }),
      element("p", { className: "buttons" }, actionButton("Cancel", `Cancel fault ${one.fault_id}`,
        () => call("DELETE", `/faults/${one.fault_id}`))));
  });
}

function showOthers() {
  $("others-empty").hidden = state.others.length > 0;
  $("others").replaceChildren(...[...state.others].reverse().map((other) => {
    const facts = Object.entries(other.facts).map(([name, value]) => `${name} ${value}`).join(", ");
    return element("li", { words: `${clock(other.t)}  ${other.event}: ${facts}` });
  }));
}

// Faults on a button

function fittingFields() {
  for (const field of $("fault-form").querySelectorAll("[data-for]")) {
    field.hidden = !field.dataset.for.split(" ").includes($("fault-kind").value);
  }
}

function faultOfForm() {
  const kind = $("fault-kind").value;
  const fault = { kind };
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  if (MESSAGE_FAULTS.includes(kind)) {
    fault.hop = $("fault-hop").value;
    fault.count = number("fault-count");
  }
  const entity = $("fault-entity").value.trim();
  if (entity && (MESSAGE_FAULTS.includes(kind) || kind === "revoke")) fault.entity_id = entity;
  if (kind === "delay") fault.delay_s = number("fault-delay");
  if (kind === "hub-down" || kind === "hub-up") fault.hub = $("fault-hub").value.trim();
  if (kind === "hub-down" || kind === "restart") fault.duration_s = number("fault-duration");
  return fault;
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  enter();
});
$("leave").addEventListener("click", () => showDoor(""));
$("fault-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(() => call("POST", "/faults", faultOfForm()), event.submitter);
});
$("fault-kind").addEventListener("change", fittingFields);
for (const button of $("quick-faults").querySelectorAll("button")) {
  button.addEventListener("click", () => act(() => call("POST", "/faults", JSON.parse(button.dataset.fault)), button));
}
$("cancel-all").addEventListener("click", (event) => act(() => call("DELETE", "/faults"), event.currentTarget));
$("filter-form").addEventListener("submit", (event) => event.preventDefault());
$("filter-form").addEventListener("input", showJourneys);
new ResizeObserver(() => {
  if ($("diagram").clientWidth !== state.drawnWidth) redraw();
}).observe($("diagram"));
fittingFields();
if (state.token) enter();
else $("token").focus();
