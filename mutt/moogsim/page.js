const WORDS = ["clear", "indeterminate", "warning", "minor", "major", "critical"];
const BEHAVIOURS = ["ok", "success_false", "202", "bad_marked", "fail_marked", "forbid_marked", "false_marked", "401", "403", "404", "redirect", "413", "429", "500", "503",
  "drip", "drip_body", "hangup_before", "hangup_after", "delay"];
const SHOWN = { requests: "requests", events: "events", taken: "taken", signatures: "signatures", duplicates: "repeats",
  max_in_window: "most in 1 s" };
const $ = id => document.getElementById(id);
// Whatever came from outside goes in as text, never as markup.
function element(name, content, className) {
  const made = document.createElement(name);
  made.append(content);
  if (className) made.className = className;
  return made;
}
function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells.map(cell => element("td", cell)));
  return made;
}
const severity = number => element("span", WORDS[number], "severity s" + number);
const get = path => fetch(path).then(answer => answer.json());

async function show() {
  try {
    const [stats, received, alerts, step] = await Promise.all(
      [get("stats"), get("received?limit=50"), get("alerts?limit=50"), get("script")]);
    $("stats").replaceChildren(...Object.entries(SHOWN).map(([name, word]) => {
      const made = document.createElement("div");
      made.append(element("dt", word), element("dd", String(stats[name])));
      return made;
    }));
    const answers = Object.entries(stats.by_status).map(([status, count]) => `${status === "0" ? "no answer" : status}: ${count}`);
    $("note").textContent = `Answers now: ${step.behaviour}` + (answers.length ? `. So far ${answers.join(", ")}.` : ".");
    $("alerts").replaceChildren(...alerts.map(alert =>
      row(severity(alert.severity), String(alert.count), alert.source, alert.description, alert.signature)));
    $("events").replaceChildren(...received.reverse().map(one =>
      row(new Date(one.time * 1000).toLocaleTimeString(), one.status ? String(one.status) : "none",
        severity(one.came.severity), one.came.source, one.came.description)));
  } catch (error) {
    $("note").textContent = "The simulator doesn't answer.";
  }
}
$("behaviour").append(...BEHAVIOURS.map(name => new Option(name, name)));
$("script").addEventListener("submit", async event => {
  event.preventDefault();
  const step = { behaviour: $("behaviour").value };
  for (const name of ["times", "retry_after", "delay", "max_events"])
    if (event.target.elements[name].value) step[name] = Number(event.target.elements[name].value);
  await fetch("script", { method: "POST", body: JSON.stringify(step) });
  show();
});
$("forget").addEventListener("click", async () => { await fetch("received", { method: "DELETE" }); show(); });
show();
setInterval(show, 2000);
