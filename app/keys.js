() => {
  // a: only A, b: only B, s: both; not while somebody types.
  const buttons = { a: "show-a", b: "show-b", s: "show-both" };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input[type=text], input[type=number], textarea, [contenteditable]");
    const id = buttons[event.key.toLowerCase()];
    if (!id || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    document.getElementById(id)?.click();
  });
}
