// Automatic, light or dark: the button goes round, this browser remembers.
(function () {
  "use strict";
  const choices = ["light dark", "light", "dark"];
  const names = { "light dark": "automatic", light: "light", dark: "dark" };
  const apply = function (choice) {
    document.documentElement.style.colorScheme = choice;
    const button = document.getElementById("theme");
    if (button) button.textContent = "Theme: " + names[choice];
  };
  let choice = localStorage.getItem("laser-sweep-theme") || choices[0];
  if (!choices.includes(choice)) choice = choices[0];
  window.laserTheme = () => apply(choice); // when the button is there
  apply(choice);
  document.addEventListener("click", function (event) {
    if (!event.target.closest || !event.target.closest("#theme")) return;
    choice = choices[(choices.indexOf(choice) + 1) % choices.length];
    localStorage.setItem("laser-sweep-theme", choice);
    apply(choice);
  });
})();
