// Search of the words of a whole document, page by page.

const AT_ONCE = 4;
const MOST_PAGES = 2000;

/** Returns where a text holds words, whatever their case, as offsets in code points. */
export function hitOffsets(text, needle) {
  const plain = (one) => Array.from(one, (character) => (/\s/.test(character) ? " " : character.toLowerCase()));
  const [hay, sought] = [plain(text), plain(needle)];
  const offsets = [];
  for (let at = 0; at + sought.length <= hay.length; at += 1) {
    if (sought.every((character, index) => hay[at + index] === character)) offsets.push([at, at + sought.length]);
  }
  return offsets;
}

/** Reads pages until all are read or `signal` is aborted; tells `onHits` of each page with hits; returns how many failed. */
export async function findInDocument(needle, { pages, text, onHits, signal }) {
  const hits = [];
  let next = 1;
  let failed = 0;
  await new Promise((resolve) => setTimeout(resolve, 250)); // the user is still typing
  const read = async () => {
    while (!signal.aborted && next <= Math.min(pages(), MOST_PAGES)) {
      const page = next;
      next += 1;
      const found = await text(page).catch(() => null);
      if (!found) failed += 1;
      const count = found ? hitOffsets(found.text, needle).length : 0;
      if (!count || signal.aborted) continue;
      hits.push({ page, count });
      hits.sort((one, other) => one.page - other.page);
      onHits([...hits]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, read));
  return failed;
}
