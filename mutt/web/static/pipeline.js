// The pipeline page, live. The server writes every word (mutt/web/admin/board.py); here they are put in their places
// as its events come, and the last hour is drawn. Without this script the page stands still.

const picture = document.querySelector("[data-events]");
const live = document.querySelector("[data-live]");
const says = document.querySelector("[data-live-says]");
const heard = document.getElementById("heard");
const plots = document.querySelector(".plots");

/** Seconds without a word after which what is shown is called old; and between tries to reach the server again. */
const OLD = 25;
const AGAIN = 10;

let stream = null;
let last = 0;

function become(state, words) {
  live.dataset.live = state;
  says.textContent = words;
}

// ---- what is shown

function put(board) {
  for (const place of document.querySelectorAll("[data-part]")) putPart(place, board.parts[place.dataset.part]);
  for (const place of document.querySelectorAll("[data-figure]")) {
    const words = board.words[place.dataset.figure] ?? "–";
    if (place.textContent !== words) place.textContent = words;
  }
  for (const bar of document.querySelectorAll("[data-bar]")) bar.value = board.bars[bar.dataset.bar] ?? 0;
  for (const place of document.querySelectorAll("[data-place]")) {
    place.dataset.state = board.states[place.dataset.place] ?? "";
  }
  for (const pipe of document.querySelectorAll("[data-flow]")) {
    pipe.dataset.lively = board.flows[pipe.dataset.flow] ?? 0;
  }
}

// A part is written anew only where it is made of other things: what somebody has the focus on, or reads, stays.
function putPart(place, html) {
  if (html === undefined) return;
  const made = document.createElement("template");
  made.innerHTML = html;
  const fresh = made.content.querySelector("[data-key]");
  const old = place.querySelector("[data-key]");
  if (old && old.dataset.key === fresh.dataset.key) return;
  place.replaceChildren(...made.content.children);
  showCopies(place);
  if (place.dataset.part === "troubles") announce(place);
}

// Read aloud when it changes, and not again with each new figure.
function announce(place) {
  const first = place.querySelector("[data-trouble]");
  const title = first?.querySelector("h2 [data-figure]")?.textContent ?? first?.textContent ?? "";
  const words = first?.dataset.trouble ? `Holds it up: ${title.trim()}` : title.trim();
  if (words && heard.textContent !== words) heard.textContent = words;
}

// ---- what is heard

function listen() {
  stream?.close();
  stream = new EventSource(picture.dataset.events);
  stream.addEventListener("board", (event) => {
    last = Date.now();
    const board = JSON.parse(event.data);
    become("live", "live,");
    put(board);
    extend(board.point);
  });
  stream.addEventListener("ended", () => location.reload());
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(lookAgain, AGAIN * 1000);
  };
}

// The stream was refused: is it the session that has ended, or the server that is away?
async function lookAgain() {
  if (document.hidden) return;
  const known = await hour();
  if (known === 401) location.reload();
  else if (known === 200) listen();
  else setTimeout(lookAgain, AGAIN * 1000);
}

setInterval(() => {
  if (live.dataset.live === "live" && Date.now() - last > OLD * 1000) become("old", "nothing new since");
}, 1000);

// Who does not look costs nothing.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    hour();
    listen();
    return;
  }
  stream?.close();
  become("still", "as of");
});

// ---- the last hour

/** Of each chart: its title, its lines (column, label, colour), how a value is written, the least that its axis shows. */
const CHARTS = [
  ["Events a second", [[1, "in", "--first"], [2, "out", "--second"]], short, 10],
  ["Waiting", [[3, "events", "--first"], [4, "alerts", "--second"]], short, 10],
  ["Oldest that waits", [[5, "", "--first"]], ages, 10],
  ["Moog's budget used", [[6, "", "--first"]], shares, 1],
  ["Audit rows a second", [[7, "", "--first"]], short, 10],
  ["Redis", [[8, "memory", "--first"], [9, "its core", "--second"]], shares, 1],
];
/** Seconds that a chart covers: what there is, within these. */
const HOUR = 3600;
const LEAST = 300;

let columns = null;
let drawn = [];

function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${Math.round(value / 1e3)} k`;
  return value > 0 && value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

function ages(seconds) {
  if (seconds < 120) return `${seconds > 0 && seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function shares(value) {
  return `${Math.round(100 * value)} %`;
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

/** A colour of the style sheet as the canvas understands it, in the light that there is. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  plots.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Fetch the hour and draw it; the status of the answer, 0 where there was none. */
async function hour() {
  try {
    const answer = await fetch(picture.dataset.hour, { headers: { "HX-Request": "true" } });
    if (answer.ok) {
      columns = await answer.json();
      draw();
    }
    return answer.status;
  } catch {
    return 0;
  }
}

function extend(point) {
  if (!columns || !point[0].length || point[0][0] <= (columns[0].at(-1) ?? 0)) return;
  columns.forEach((column, number) => column.push(point[number][0]));
  while (columns[0][0] < columns[0].at(-1) - HOUR) for (const column of columns) column.shift();
  for (const { plot, lines } of drawn) plot.setData([columns[0], ...lines.map(([number]) => columns[number])]);
}

function draw() {
  for (const { plot } of drawn) plot.destroy();
  plots.hidden = false;
  plots.replaceChildren();
  drawn = CHARTS.map(([title, lines, written, least]) => chart(title, lines, written, least));
}

function chart(title, lines, written, least) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = title;
  const values = document.createElement("span");
  values.className = "values";
  caption.append(name, values);
  const ground = document.createElement("div");
  figure.append(caption, ground);
  plots.append(figure);
  const options = optionsOf(ground, lines, written, least);
  options.hooks = { setCursor: [(plot) => tell(plot, values, lines, written)], setData: [(plot) => tell(plot, values, lines, written)] };
  const plot = new uPlot(options, [columns[0], ...lines.map(([number]) => columns[number])], ground);
  ground.setAttribute("role", "img");
  ground.setAttribute("aria-label", `${title}, the last hour; the table below has the numbers`);
  tell(plot, values, lines, written);
  return { plot, lines, figure };
}

function optionsOf(ground, lines, written, least) {
  const [ink, grid] = [colour("--soft"), colour("--line")];
  const axis = { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width: ground.clientWidth,
    height: 132,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "hour" }, drag: { x: false, y: false }, points: { size: 7 }, y: false },
    scales: {
      x: { range: (_plot, first, most) => [most - Math.min(HOUR, Math.max(LEAST, most - first)), most] },
      y: { range: (_plot, _least, most) => [0, Math.max(least, most * 1.08)] },
    },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    axes: [
      { ...axis, size: 22, space: 60, values: (_plot, at) => at.map((one) => clock(one).slice(0, 5)) },
      { ...axis, size: 46, space: 34, values: (_plot, at) => at.map(written) },
    ],
    series: [
      {},
      ...lines.map(([, label, name], number) => ({
        label,
        stroke: colour(name),
        width: 1.75,
        dash: number ? [5, 3] : undefined,
        fill: number || lines.length > 1 ? undefined : colour("--fill"),
        points: { show: false },
      })),
    ],
  };
}

/** Beside the title: what the cursor is on, in every chart at once; without a cursor, what is now. */
function tell(plot, place, lines, written) {
  const at = plot.cursor.idx ?? columns[0].length - 1;
  if (at < 0) {
    place.replaceChildren("nothing yet");
    return;
  }
  const told = lines.map(([number, label], order) => {
    const one = document.createElement("span");
    one.className = `value line-${order}`;
    one.textContent = `${label} ${written(columns[number][at] ?? 0)}`.trim();
    return one;
  });
  const time = document.createElement("span");
  time.className = "when";
  time.textContent = plot.cursor.idx == null ? "" : clock(columns[0][at]).slice(0, 8);
  place.replaceChildren(time, ...told);
}

new ResizeObserver(() => {
  for (const { plot, figure } of drawn) {
    const width = figure.querySelector("[role=img]").clientWidth;
    if (width && width !== plot.width) plot.setSize({ width, height: plot.height });
  }
}).observe(plots.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => columns && draw());

// ---- the command, to be taken along

function showCopies(place) {
  if (!navigator.clipboard) return; // over plain HTTP from afar there is none: the command can be selected
  for (const button of place.querySelectorAll("[data-copies]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
  heard.textContent = "Copied.";
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 2000);
});

showCopies(document);
hour();
listen();
