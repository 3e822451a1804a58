// What plain forms can't do: tick all rows at once, and say where the reader is that a change in place went wrong.
// Every page works without it.

const said = document.getElementById("said");

function say(text) {
  const line = document.createElement("p");
  line.className = "error";
  line.setAttribute("role", "alert");
  line.textContent = text;
  said.replaceChildren(line);
  said.scrollIntoView({ block: "nearest" });
}

// An answer that is no part of this page is a page of its own that says what is wrong.
document.addEventListener("htmx:responseError", (event) => {
  const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  const told = [...page.querySelectorAll("main h1, main h1 + p")].map((element) => element.textContent.trim());
  say(told.join(": ") || `The server answered ${event.detail.xhr.status}.`);
});
document.addEventListener("htmx:sendError", () => say("MUTT does not answer: nothing is known of what was asked."));

// Ticks: one box for all of a list, and how many are ticked.
function tickable(all) {
  return document.querySelectorAll(`input[type=checkbox][form="${all.dataset.ticks}"]`);
}

function count(form) {
  const ticked = document.querySelectorAll(`input[type=checkbox][form="${form}"]:checked`).length;
  for (const place of document.querySelectorAll(`[data-ticked="${form}"]`)) place.textContent = `${ticked} ticked`;
}

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.dataset.ticks) {
    for (const one of tickable(box)) one.checked = box.checked;
    count(box.dataset.ticks);
  } else if (box.matches("input[type=checkbox][form]")) {
    count(box.getAttribute("form"));
  }
  // A filter acts when it is chosen.
  if (box.matches("[data-now] select")) box.form.requestSubmit();
});

for (const all of document.querySelectorAll("[data-ticks]")) {
  all.closest("label").hidden = false;
  count(all.dataset.ticks);
}
