/* The browser's own storage, so that a reload loses nothing: the session's detector, and the verdicts over days. */

const DETECTOR = "asd-detector", HISTORY = "asd-history";

// Each place is a database with one store of the same name. `act` returns the request whose result is wanted; null is a failure.
function inStore(place, mode, act) {
  return new Promise(resolve => {
    const opening = indexedDB.open(place, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(place);
    opening.onerror = () => resolve(null);  // a browser that keeps nothing, as in private windows
    opening.onsuccess = () => {
      const database = opening.result, transaction = database.transaction(place, mode), request = act(transaction.objectStore(place));
      transaction.oncomplete = () => { database.close(); resolve(request?.result ?? ""); };
      transaction.onerror = transaction.onabort = () => { database.close(); resolve(null); };
    };
  });
}

// An empty text forgets; no text, where the app had nothing to keep, changes nothing.
async function keep(text) {
  if (typeof text !== "string") return "";
  return await inStore(DETECTOR, "readwrite", store => text ? store.put(text, MODEL.version) : store.clear()) ?? "";
}

async function kept() {
  return await inStore(DETECTOR, "readonly", store => store.get(MODEL.version)) ?? "";
}

// Verdicts, each under its recording's key; true if the browser keeps them. A recording that is judged again keeps its place in time.
async function remember(rows) {
  if (!rows.length) return true;
  const done = await inStore(HISTORY, "readwrite", store => {
    for (const row of rows) {
      const before = store.get(row.key);
      before.onsuccess = () => store.put(before.result ? again(before.result, row) : row, row.key);
    }
  });
  document.dispatchEvent(new Event("asd-remembered"));
  return done !== null;
}

async function remembered() {
  return await inStore(HISTORY, "readonly", store => store.getAll()) || [];
}

function forget(keys) {
  return inStore(HISTORY, "readwrite", store => { for (const key of keys) store.delete(key); });
}
