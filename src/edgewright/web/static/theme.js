// Runs before the first paint: applies the stored theme, and marks that scripts are enabled.
(function () {
  var root = document.documentElement;
  root.classList.add("script");
  try {
    var chosen = localStorage.getItem("edgewright-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch (error) { /* no storage: use the system's theme */ }
})();
