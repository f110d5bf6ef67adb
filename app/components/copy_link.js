// Copies the page's address, which is a link to what it shows.

export default function ({ parentElement }) {
  const button = parentElement.querySelector("button"), said = button.textContent;
  button.onclick = async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      copied = false; // not over plain HTTP, or refused
    }
    button.textContent = copied ? "Copied" : "Copy it from the address bar";
    setTimeout(() => (button.textContent = said), 2500);
  };
}
