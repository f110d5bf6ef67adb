// The network in the page's header (components/app_header.py): its exits are filled while a thumb moves.

const shareText = (share) => percent(share, share >= 0.1 || !share ? 0 : 1);

// `row`: as numbersOf's, of all images.
const fillNetwork = (row) => {
  const network = document.querySelector(".dx-network"), cells = network?.querySelectorAll("[data-exit]") ?? [];
  const counts = Array.from({ length: row.length / 2 }, (_, k) => row[2 * k] + row[2 * k + 1]);
  if (cells.length !== counts.length) return; // of another run: Python draws it anew
  const images = counts.reduce((sum, n) => sum + n, 0), shares = counts.map((n) => n / images);
  let inside = 1;
  cells.forEach((cell, k) => {
    cell.style.setProperty("--share", shares[k].toFixed(4));
    cell.style.setProperty("--inside", Math.max(0, inside).toFixed(4));
    inside -= shares[k];
    const text = cell.querySelector("small");
    if (text) text.textContent = shareText(shares[k]);
  });
  const words = shares.map((share, k) => `exit ${k + 1} ${shareText(share)}`);
  network.setAttribute("aria-label", `Share of images by exit: ${words.join(", ")}`);
};
