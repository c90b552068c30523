"use strict";
// Fetches the page every 10 seconds and replaces only the parts that changed, so that nothing flickers.
(() => {
  const period = 10000;
  const stale = document.getElementById("stale");
  const form = document.querySelector("form");
  const text = form.elements.q;
  const state = form.elements.state;
  let updated = new Date();

  function filter() {
    const wanted = text.value.toLowerCase();
    for (const row of document.querySelectorAll("tbody tr")) {
      const matches = (!wanted || row.textContent.toLowerCase().includes(wanted)) &&
        (!state.value || row.dataset.state === state.value);
      row.hidden = !matches;
    }
  }

  function replace(next) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = next.getElementById(part.id);
      if (!fresh || fresh.innerHTML === part.innerHTML || part.contains(document.activeElement)) continue;
      for (const details of part.querySelectorAll("details[open]")) {
        const same = next.getElementById(details.id);
        if (same) same.open = true;
      }
      part.className = fresh.className;
      part.replaceChildren(...fresh.childNodes);
    }
    document.title = next.title;
  }

  async function update() {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(period)});
      if (!answer.ok) throw new Error(answer.status);
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      filter();
      updated = new Date();
      stale.hidden = true;
    } catch {
      stale.textContent = `Deckwatch does not respond. This page is from ${updated.toLocaleTimeString()}.`;
      stale.hidden = false;
    }
  }

  text.addEventListener("input", filter);
  state.addEventListener("change", filter);
  document.addEventListener("visibilitychange", update);
  setInterval(update, period);
})();
