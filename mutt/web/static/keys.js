// Keys for who works without a mouse: "/" searches, "n" begins a rule, "?" says which keys there are.

const help = document.getElementById("keys");

function typing(target) {
  return target.isContentEditable || target.matches("input:not([type=checkbox]):not([type=radio]), textarea, select");
}

const keys = {
  "/": () => {
    const field = document.querySelector("main input[type=search], main [data-search]");
    field?.focus();
    field?.select();
    return Boolean(field);
  },
  n: () => {
    if (!help.dataset.newRule) return false;
    location.assign(help.dataset.newRule);
    return true;
  },
  "?": () => {
    help.showModal();
    return true;
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !help || help.open) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
  } else if (Object.hasOwn(keys, event.key) && keys[event.key]()) {
    event.preventDefault();
  }
});
