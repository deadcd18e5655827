// Keeps the dashboard as it is now: asks for its sections again and again while it can be seen.
"use strict";
{
  const page = document.getElementById("steady-queue");
  const every = Number(page.dataset.every);
  const url = page.dataset.live + location.search;
  const status = document.getElementById("sq-live");
  let timer = null;
  let asking = false;

  // Changes only what differs, so that focus, selection and a click in progress are kept.
  function morph(old, now) {
    if (old.isEqualNode(now)) return;
    if (old.nodeName !== now.nodeName || old.childNodes.length !== now.childNodes.length) {
      old.replaceWith(now);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = now.nodeValue;
      return;
    }
    for (const name of old.getAttributeNames()) {
      if (!now.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const name of now.getAttributeNames()) {
      if (old.getAttribute(name) !== now.getAttribute(name)) {
        old.setAttribute(name, now.getAttribute(name));
      }
    }
    const children = [...now.childNodes];
    [...old.childNodes].forEach((child, place) => morph(child, children[place]));
  }

  function show(answer) {
    for (const [name, html] of Object.entries(answer.sections)) {
      const now = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
      morph(document.getElementById(`sq-${name}`), document.importNode(now, true));
    }
    document.getElementById("sq-now").textContent = answer.now;
    status.textContent = "";
  }

  async function ask() {
    timer = null;
    if (asking) return;
    asking = true;
    try {
      const response = await fetch(url, { redirect: "error", headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(`status ${response.status}`);
      show(await response.json());
    } catch (error) {
      status.textContent = `(not refreshed: ${error.message})`;
    }
    asking = false;
    plan();
  }

  function plan() {
    if (timer === null && !document.hidden) timer = setTimeout(ask, every);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = null;
    if (!document.hidden) ask();
  });
  plan();
}
