// Palette, copy buttons, section bar, links to layers, and the drawer of a new job. Every page works without scripts.
(function () {
  "use strict";
  var find = function (selector, from) { return (from || document).querySelector(selector); };
  var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };
  var make = function (tag, css, text) {
    var made = document.createElement(tag);
    if (css) made.className = css;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // Palette: finds pages, models, and runs by any piece of an id
  var palette = find("#palette"), finder = find("#finder");
  if (palette && finder) {
    var input = find("input", palette), list = find("ul", palette), at = 0, asked = 0, timer = 0;
    if (/Mac|iPhone|iPad/.test(navigator.platform)) find("[data-palette-key]").textContent = "⌘ K";
    var mark = function () {
      all("li", list).forEach(function (item, place) {
        item.setAttribute("aria-selected", place === at ? "true" : "false");
        if (place === at) { input.setAttribute("aria-activedescendant", item.id); item.scrollIntoView({ block: "nearest" }); }
      });
    };
    var show = function (found) {
      list.textContent = "";
      at = 0;
      found.forEach(function (one, place) {
        var item = make("li"), link = make("a");
        item.id = "found-" + place;
        item.setAttribute("role", "option");
        link.href = one.address;
        link.tabIndex = -1;
        link.appendChild(make("span", "", one.title));
        link.appendChild(make("small", "", one.kind + (one.detail ? " · " + one.detail : "")));
        item.appendChild(link);
        list.appendChild(item);
      });
      if (!found.length) list.appendChild(make("li", "none", "Nothing matches."));
      mark();
    };
    var ask = function () {
      var number = ++asked;
      fetch("/find.json?text=" + encodeURIComponent(input.value), { credentials: "same-origin" })
        .then(function (answer) { return answer.json(); })
        .then(function (answer) { if (number === asked) show(answer.found); })
        .catch(function () { if (number === asked) show([]); });
    };
    var openPalette = function (text) {
      input.value = text || "";
      palette.showModal();
      ask();
    };
    input.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(ask, 80); });
    palette.addEventListener("keydown", function (event) {
      var items = all("li a", list);
      if (event.key === "ArrowDown") at = Math.min(at + 1, items.length - 1);
      else if (event.key === "ArrowUp") at = Math.max(at - 1, 0);
      else if (event.key === "Enter" && items[at]) items[at].click();
      else return;
      event.preventDefault();
      mark();
    });
    palette.addEventListener("click", function (event) { if (event.target === palette) palette.close(); });
    finder.addEventListener("focus", function () { finder.blur(); openPalette(finder.value); });
    document.addEventListener("keydown", function (event) {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !palette.open) { event.preventDefault(); openPalette(); }
    });
  }

  // Copy buttons beside commands and ids
  var COPY_ICON = "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3";
  function draw(button, path) {
    var space = "http://www.w3.org/2000/svg", icon = document.createElementNS(space, "svg"), line = document.createElementNS(space, "path");
    icon.setAttribute("viewBox", "0 0 16 16");
    icon.setAttribute("aria-hidden", "true");
    line.setAttribute("d", path);
    icon.appendChild(line);
    button.replaceChildren(icon);
  }
  function addCopyButtons() {
    if (!navigator.clipboard) return;
    all("code.id, pre > code, code[data-copy]").forEach(function (code) {
      if (code.dataset.copied !== undefined) return;
      code.dataset.copied = "";
      var button = make("button", "copy");
      button.type = "button";
      button.title = "Copy";
      button.setAttribute("aria-label", "Copy " + code.textContent.trim().slice(0, 40));
      button.addEventListener("click", function () {
        navigator.clipboard.writeText(code.dataset.copy || code.title || code.textContent.replace(/ +#.*$/gm, "").trim());
        draw(button, "M3 8.5 6.5 12 13 4.5");
        setTimeout(function () { draw(button, COPY_ICON); }, 1500);
      });
      draw(button, COPY_ICON);
      code.parentNode.insertBefore(button, code.parentNode.tagName === "PRE" ? code : code.nextSibling);
    });
  }

  // Section bar: marks the section that is being read
  var bar = find("[data-sections]");
  if (bar) {
    var targets = all("a", bar).map(function (link) { return find(link.hash); });
    var waits = false;
    var markSection = function () {
      waits = false;
      var current = 0;
      targets.forEach(function (target, place) { if (target && place && target.getBoundingClientRect().top < 160) current = place; });
      all("a", bar).forEach(function (link, place) {
        if (place === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      });
    };
    document.addEventListener("scroll", function () { if (!waits) { waits = true; requestAnimationFrame(markSection); } }, { passive: true });
    markSection();
  }

  // Layers: a row, a span of the timeline and a node of the graph are one selection, kept in the address
  function select(position, scrolls) {
    all("[data-layer]").forEach(function (one) {
      var lit = one.dataset.layer.split(" ").indexOf(position) >= 0;
      one.classList.toggle("lit", lit);
      if (lit && scrolls && one.tagName === "TR") one.scrollIntoView({ block: "center" });
    });
    document.dispatchEvent(new CustomEvent("layer", { detail: position }));
  }
  function selectFromAddress() {
    var found = /^#layer=(\d+)$/.exec(location.hash);
    if (found) select(found[1], true);
  }
  document.addEventListener("click", function (event) {
    var one = event.target.closest && event.target.closest("[data-layer]");
    if (!one || event.target.closest("a, button, input, select") || String(getSelection())) return;
    var position = one.dataset.layer.split(" ")[0];
    history.replaceState(null, "", "#layer=" + position);
    select(position, one.tagName !== "TR");
  });
  window.addEventListener("hashchange", selectFromAddress);
  document.addEventListener("arrived", function () { addCopyButtons(); selectFromAddress(); });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") all("details.menu[open]").forEach(function (menu) { menu.open = false; });
  });
  addCopyButtons();
  selectFromAddress();
})();
