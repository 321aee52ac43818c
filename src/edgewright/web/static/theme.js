// Before anything is drawn: the theme that was chosen, and that there is script.
(function () {
  var root = document.documentElement;
  root.classList.add("script");
  try {
    var chosen = localStorage.getItem("edgewright-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch (error) { /* storage is switched off: the system's theme it is */ }
})();
