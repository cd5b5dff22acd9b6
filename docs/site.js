// Tables and code that scroll sideways can be reached and scrolled from the keyboard. The theme wraps them when it is ready.
function reachable() {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wrap.tabIndex = 0;
    wrap.setAttribute("role", "region");
    wrap.setAttribute("aria-label", "table");
  }
  for (const code of document.querySelectorAll(".md-typeset pre > code:not([tabindex])")) code.tabIndex = 0;
}
new MutationObserver(reachable).observe(document.documentElement, { childList: true, subtree: true });
reachable();
